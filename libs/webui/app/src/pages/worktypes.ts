import { useMemo } from 'react';
import type { Labels } from '../lib/format';
import { useAPI } from '../lib/hooks';
import { noWork, type Work } from './blocks/rows';

export interface CompactorStatus {
  synced: string;
  err?: string;
  blocks: number;
  running: { job: string; lane: string; since: string; sources?: string[]; blocks?: string[]; bytes?: number; done?: number }[] | null;
  quarantined: { block: string; reason: string; marked: boolean }[] | null;
  resting: { job: string; failures: number; until: string; error: string }[] | null;
  events: { time: string; kind: string; block?: string; text: string }[] | null;
}

export interface Job {
  round: number;
  kind: string;
  group: string;
  labels: Labels | null;
  resolution: number;
  targets: number[] | null;
  minTime: number;
  maxTime: number;
  bytes: number;
  samples: number;
  overlap: boolean;
  sources: string[];
}

// Expired is a block whose retention is over; held says why it stays for now, empty if it does not.
export interface Expired {
  block: string; labels: Labels | null; resolution: number; minTime: number; maxTime: number; bytes: number;
  policy: string; keepSeconds: number; overSeconds: number; held: string;
}

export interface CompactorPlan {
  jobs: Job[];
  marks: { block: string; reason: string; details: string }[];
  problems: { kind: string; group: string; blocks: string[]; reason: string }[];
  retention: Expired[];
  bytes: number;
  secondsLeft: number;
}

const idPattern = /\b[0-9A-HJKMNP-TV-Z]{26}\b/g;

// useWork is what the compactor does with which blocks, where one can be asked.
export function useWork(there: boolean): { work: Work; error?: string; status?: CompactorStatus; plan?: CompactorPlan; reload: () => void; loading: boolean } {
  const status = useAPI<CompactorStatus>(there ? 'compactor/status' : null, {}, 10_000);
  const plan = useAPI<CompactorPlan>(there ? 'compactor/plan' : null, {}, 60_000);
  const work = useMemo<Work>(() => {
    if (!status.data && !plan.data) {
      return noWork;
    }
    const running = new Set<string>();
    for (const r of status.data?.running ?? []) {
      (r.sources ?? r.blocks ?? r.job.match(idPattern) ?? []).forEach((id) => running.add(id));
    }
    const planned = new Set((plan.data?.jobs ?? []).filter((j) => j.round === 0).flatMap((j) => j.sources));
    const aside = new Map((status.data?.quarantined ?? []).map((a) => [a.block, a.reason]));
    return { running, planned, aside };
  }, [status.data, plan.data]);
  return {
    work, error: status.error ?? plan.error, status: status.data, plan: plan.data, loading: status.loading,
    reload: () => { status.reload(); plan.reload(); },
  };
}
