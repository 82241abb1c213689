import{j as t,E as e}from"./index-sw6hlMA5.js";function o(){return t.jsx(e,{children:"Not there yet."})}export{o as default};
