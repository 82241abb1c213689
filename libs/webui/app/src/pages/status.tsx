import { bytes } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { ago, formatTime } from '../lib/time';
import { Heading, Trouble } from '../ui/parts';

interface Runtime { startTime: string; CWD: string; goroutineCount: number; GOMAXPROCS: number; GOGC: string; GODEBUG: string; GOMEMLIMIT: number }
interface Build { version: string; revision: string; branch: string; buildUser: string; buildDate: string; goVersion: string }

export default function Status() {
  const runtime = useAPI<Runtime>('status/runtimeinfo', {}, 10_000);
  const build = useAPI<Build>('status/buildinfo');
  const r = runtime.data, b = build.data;
  return (
    <>
      <Heading title="Status" at={runtime.at} loading={runtime.loading} onReload={runtime.reload} />
      <Trouble what="The status" error={runtime.error ?? build.error} stale={!!r} />
      <div className="cards">
        {r && (
          <List title="Process" rows={[
            ['Started', `${formatTime(Date.parse(r.startTime))} (${ago(r.startTime)})`], ['Working folder', r.CWD], ['Goroutines', String(r.goroutineCount)],
            ['GOMAXPROCS', String(r.GOMAXPROCS)], ['GOGC', r.GOGC || 'not set'], ['GODEBUG', r.GODEBUG || 'not set'],
            ['GOMEMLIMIT', r.GOMEMLIMIT >= 2 ** 62 ? 'none' : bytes(r.GOMEMLIMIT)],
          ]} />
        )}
        {b && (
          <List title="Build" rows={[
            ['Version', b.version || 'not set'], ['Revision', b.revision || 'not set'], ['Branch', b.branch || 'not set'], ['Built by', b.buildUser || 'not set'],
            ['Built at', b.buildDate || 'not set'], ['Go', b.goVersion],
          ]} />
        )}
      </div>
    </>
  );
}

function List({ title, rows }: { title: string; rows: [string, string][] }) {
  return (
    <section className="panel" aria-label={title}>
      <h2>{title}</h2>
      <table><tbody>{rows.map(([k, v]) => <tr key={k}><th scope="row">{k}</th><td className="break">{v}</td></tr>)}</tbody></table>
    </section>
  );
}
