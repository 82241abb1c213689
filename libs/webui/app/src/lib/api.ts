import { apiURL } from './boot';

export class APIError extends Error {
  constructor(message: string, readonly type: string, readonly status: number) {
    super(message);
  }
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
  // Members beside data, such as a receipt.
  extra: Record<string, unknown>;
}

interface Envelope {
  status?: string;
  data?: unknown;
  error?: string;
  errorType?: string;
  warnings?: string[];
  infos?: string[];
  [key: string]: unknown;
}

export type Params = Record<string, string | number | boolean | string[] | undefined>;

export function encode(params: Params): URLSearchParams {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (Array.isArray(value)) {
      value.forEach((v) => out.append(key, v));
    } else if (value !== undefined && value !== '') {
      out.set(key, String(value));
    }
  }
  return out;
}

interface Options {
  method?: 'GET' | 'POST' | 'DELETE';
  signal?: AbortSignal;
}

// call asks the API of this service. Failures of every kind are an APIError, but for an abort, which stays what it is.
export async function call<T>(path: string, params: Params = {}, options: Options = {}): Promise<Answer<T>> {
  const { method = 'GET', signal } = options;
  const body = encode(params);
  const query = body.toString();
  const inURL = method !== 'POST';
  let response: Response;
  try {
    response = await fetch(apiURL(path) + (inURL && query ? '?' + query : ''), {
      method, signal, body: inURL ? undefined : body, headers: { Accept: 'application/json' },
    });
  } catch (err) {
    if (signal?.aborted) {
      throw err;
    }
    throw new APIError(`The server cannot be reached: ${err instanceof Error ? err.message : String(err)}`, 'network', 0);
  }
  if (response.status === 204) {
    return { data: undefined as T, warnings: [], infos: [], extra: {} };
  }
  const text = await response.text();
  let envelope: Envelope;
  try {
    envelope = JSON.parse(text) as Envelope;
  } catch {
    throw new APIError(text.slice(0, 300) || response.statusText, 'internal', response.status);
  }
  if (envelope.status !== 'success') {
    throw new APIError(envelope.error ?? response.statusText, envelope.errorType ?? 'internal', response.status);
  }
  const { data, warnings = [], infos = [], status: _status, ...extra } = envelope;
  return { data: data as T, warnings, infos, extra };
}

export function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
