import { hints } from '../lib/boot';
import { encodeOptions, defaults } from './graph/options';
import { Link } from '../ui/link';

// Expression shows PromQL, as a link to its graph where this service has one.
export function Expression({ expr }: { expr: string }) {
  if (!hints.pages.includes('graph')) {
    return <code className="break">{expr}</code>;
  }
  return <Link page="graph" search={encodeOptions([{ ...defaults, expr, tab: 'table' }])}><code className="break">{expr}</code></Link>;
}
