import { Viewer } from './global';

export default function LoadedPage() {
  return <Viewer view="loaded" title="Loaded blocks" />;
}
