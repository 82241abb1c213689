import { acceptCompletion, autocompletion, completionStatus, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, insertNewlineAndIndent } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { lintKeymap } from '@codemirror/lint';
import { EditorState, Prec } from '@codemirror/state';
import { EditorView, keymap, placeholder } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { PromQLExtension } from '@prometheus-io/codemirror-promql';
import { useEffect, useRef } from 'react';
import { base, hints } from '../../lib/boot';

const colours = HighlightStyle.define([
  { tag: [tags.labelName, tags.propertyName], color: 'var(--code-name)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--code-value)' },
  { tag: [tags.number, tags.literal], color: 'var(--code-num)' },
  { tag: [tags.function(tags.variableName), tags.keyword, tags.operatorKeyword, tags.modifier], color: 'var(--code-fn)', fontWeight: '600' },
  { tag: tags.comment, color: 'var(--soft)', fontStyle: 'italic' },
  { tag: tags.invalid, color: 'var(--bad)', textDecoration: 'underline wavy' },
]);

const look = EditorView.theme({
  '.cm-content': { fontFamily: 'var(--mono)', padding: '.42rem .2rem', caretColor: 'var(--text)' },
  '.cm-line': { padding: '0 .35rem' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-placeholder': { color: 'var(--soft)' },
  '&.cm-focused .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--accent-soft) !important' },
  '.cm-tooltip': { backgroundColor: 'var(--panel)', color: 'var(--text)', border: '1px solid var(--field-line)', borderRadius: '6px', maxWidth: '92vw' },
  '.cm-tooltip.cm-tooltip-autocomplete > ul': { fontFamily: 'var(--mono)', maxHeight: '20rem' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent) !important', color: 'var(--accent-text) !important' },
  '.cm-completionDetail': { color: 'inherit', opacity: '.8', fontStyle: 'normal', marginLeft: '1em' },
  '.cm-completionMatchedText': { textDecoration: 'none', fontWeight: '700' },
  '.cm-completionInfo': { padding: '.4rem .6rem', maxWidth: '24rem' },
  '.cm-diagnostic': { padding: '.3rem .5rem' },
  '.cm-matchingBracket': { backgroundColor: 'var(--accent-soft) !important', outline: '1px solid var(--accent)' },
});

interface Props {
  value: string;
  onChange: (v: string) => void;
  onRun: () => void;
  // The number of the panel, for those who hear the page.
  number: number;
}

// Editor edits a PromQL expression, with completion from this querier. Enter runs it, Shift-Enter begins a line.
export function Editor({ value, onChange, onRun, number }: Props) {
  const parent = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const callbacks = useRef({ onChange, onRun });
  callbacks.current = { onChange, onRun };

  useEffect(() => {
    if (!parent.current) {
      return undefined;
    }
    const promQL = new PromQLExtension().activateCompletion(true).activateLinter(true).setComplete({
      remote: { url: base.href.replace(/\/$/, ''), httpMethod: 'GET', lookbackInterval: 12 * 3_600_000, cache: { maxAge: 300_000 } },
    });
    const run = () => {
      callbacks.current.onRun();
      return true;
    };
    const editor = new EditorView({
      parent: parent.current,
      state: EditorState.create({
        doc: value,
        extensions: [
          EditorView.cspNonce.of(hints.nonce),
          look, syntaxHighlighting(colours), history(), indentOnInput(), bracketMatching(), closeBrackets(), EditorView.lineWrapping,
          autocompletion({ icons: false, maxRenderedOptions: 80 }),
          promQL.asExtension(),
          placeholder('Expression (Enter runs it, Shift-Enter begins a new line)'),
          EditorView.contentAttributes.of({ 'aria-label': `PromQL expression ${number}` }),
          Prec.high(keymap.of([
            // A list that is being made or has only just come up does not take Tab yet: then Tab must not lead away either.
            { key: 'Tab', run: (v) => acceptCompletion(v) || completionStatus(v.state) !== null },
            { key: 'Shift-Enter', run: insertNewlineAndIndent },
            { key: 'Mod-Enter', run },
            { key: 'Enter', run },
          ])),
          Prec.highest(keymap.of(completionKeymap)),
          keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...lintKeymap]),
          EditorView.updateListener.of((u) => {
            if (u.docChanged) {
              callbacks.current.onChange(u.state.doc.toString());
            }
          }),
        ],
      }),
    });
    view.current = editor;
    return () => {
      editor.destroy();
      promQL.destroy();
      view.current = null;
    };
    // The editor lives as long as the panel; later values are brought in below.
    // eslint-disable-next-line
  }, []);

  useEffect(() => {
    const editor = view.current;
    if (editor && editor.state.doc.toString() !== value) {
      editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
    }
  }, [value]);

  return <div className="editor" ref={parent} />;
}
