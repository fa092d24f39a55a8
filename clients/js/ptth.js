/**
 * Serves HTTP requests from a browser tab, Node.js (18 or later) or Deno, behind any firewall: a relay takes the public
 * requests, and this module fetches them with ordinary requests of its own (ReverseHttp).
 *
 *     import { serve } from './ptth.js';
 *     const { url, stop } = await serve({ relay: 'https://relay.example.org', name: 'shop', token }, async (request) =>
 *       new Response(`hello, you asked for ${request.url}`));
 *
 * On the wire: a POST to `{relay}/reversehttp` registers, and names a Request URL. A GET of that URL is held until a
 * visitor's request comes, which is the body (`message/http`). The response goes back, in the same form, as a POST to the
 * same URL; the next URL to ask is in `Link: <…>; rel="next"`.
 */

/** Polls that are open at once: enough to bridge the round trip between one request and the next. */
const POLLS = 4;
/** Relays hold a poll for 30 s or less; one that brings nothing for this long is lost. In milliseconds. */
const POLL_LOST = 60_000;
/** What one request of ours may take that a relay answers at once. In milliseconds. */
const PROMPT = 20_000;
/** The longest wait before the first retry, and before any. In milliseconds. */
const [BACK_OFF, BACK_OFF_MOST] = [250, 30_000];
/** A relay that asks for more patience than this is asked again all the same. In milliseconds. */
const RETRY_AFTER_MOST = 300_000;
/** How long `stop` waits for handlers. In milliseconds. */
const GRACE = 10_000;
/** Response bodies up to this are sent in one piece; longer and slower ones stream. In bytes. */
const WHOLE = 256 * 1024;
/** A body that pauses for longer streams. In milliseconds. */
const PAUSE = 20;
/** How often an answer is offered to a relay that cannot be reached. */
const ANSWER_TRIES = 3;

/** These fields belong to one connection (RFC 9110 §7.6.1); the length is counted anew. */
const HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade']);

/** Between two cookies in one line. The comma of a date is followed by a space within it, not by a name and "=". */
const COOKIES = /,\s*(?=[^\s;,=]+=)/;

/** Node.js 18 has this as a module alone. */
const crypto = globalThis.crypto ?? (await import('node:crypto')).webcrypto;

/** The relay said no (401, 403): asking again does not help. */
export class Refused extends Error {
  name = 'Refused';
}

/** Something that may be over in a moment; `after` the milliseconds to wait, `gone` when the URL is over. */
class Trouble extends Error {}

/**
 * What a handler may want to know beyond the `Request`, which in browsers cannot hold every field (`Cookie`, `Host`, …).
 * @typedef {{headers: Headers, remote: string | null, target: string}} Info
 *
 * @typedef {object} Options
 * @property {string | URL} relay the relay's URL
 * @property {string} name the name to serve
 * @property {string} [token] what entitles to the name, unless the relay asks for nothing
 * @property {number} [concurrency] requests in hand at once, 16 unless told
 * @property {AbortSignal} [signal] stops
 * @property {boolean} [stream] whether long response bodies stream: unless told, everywhere but in browsers, where
 *     only some can, and only over HTTP/2
 * @property {(line: string) => void} [log] where to tell of trouble; `console.warn` unless told
 * @property {(connected: boolean) => void} [connection] is called when the relay cannot be reached any more (`false`),
 *     and when it can be reached again (`true`)
 */

/**
 * Registers, and from then on answers requests. Until the relay can be reached it goes on trying.
 *
 * @param {Options} options
 * @param {(request: Request, info: Info) => Response | Promise<Response>} handler
 * @returns {Promise<{url: string, stop: () => Promise<void>, ended: Promise<void>}>} the public URL; what ends it: polls
 *     end at once, handlers get ten seconds, the name is given back; and a promise of the end, which rejects with
 *     `Refused` if the relay withdraws the name.
 * @throws {Refused} the relay said no
 */
export async function serve(options, handler) {
  const agent = new Agent(options, handler);
  const first = await agent.register();
  const stop = () => agent.stop();
  return { url: agent.url, stop, ended: agent.run(first) };
}

class Agent {
  #options;
  #handler;
  #gateway;
  #streams;
  #ending = new AbortController();
  #cut = new AbortController();
  #free;
  #waiting = [];
  #answers = new Set();
  #private = null;
  #trouble = '';
  #stopped = null;
  #instance = crypto.getRandomValues(new BigUint64Array(1))[0].toString(16);
  url = '';

  constructor(options, handler) {
    const { relay, name, concurrency = 16, signal } = options;
    if (!relay || !name || typeof handler !== 'function') throw new TypeError('serve({ relay, name, … }, handler)');
    if (!(concurrency >= 1)) throw new RangeError('concurrency: 1 or more');
    this.#options = options;
    this.#handler = handler;
    this.#gateway = new URL(`${String(relay).replace(/\/+$/, '')}/reversehttp`);
    this.#free = Math.floor(concurrency);
    this.#streams = options.stream ?? (globalThis.process?.versions?.node !== undefined || 'Deno' in globalThis);
    signal?.throwIfAborted();
    signal?.addEventListener('abort', () => this.stop(), { once: true });
  }

  /** Registers until it succeeds; the first Request URL. */
  async register() {
    for (let failures = 0; ; failures++) {
      try {
        return await this.#enrol();
      } catch (error) {
        this.#options.signal?.throwIfAborted();
        await this.#recover(error, failures);
      }
    }
  }

  /** Answers requests until it is stopped or refused. */
  async run(first) {
    const chains = Math.min(POLLS, this.#free);
    const running = Array.from({ length: chains }, (_, index) => this.#chain(index === 0 ? first : null));
    try {
      await Promise.all(running);
    } catch (error) {
      this.stop();
      throw error;
    }
    await this.#stopped;
  }

  stop() {
    return (this.#stopped ??= this.#finish());
  }

  async #finish() {
    this.#ending.abort();
    this.#waiting.splice(0).forEach((go) => go());
    await Promise.race([Promise.allSettled(this.#answers), sleep(GRACE, this.#cut.signal)]);
    this.#cut.abort();
    if (!this.#private) return;
    // A relay that cannot be reached frees the name by itself.
    await this.#fetch(this.#private, { method: 'DELETE', headers: this.#credential(), keepalive: true }).catch(() => {});
  }

  /** One poll after the other; each names the next. */
  async #chain(url) {
    for (let failures = 0; !this.#ending.signal.aborted; ) {
      await this.#slot();
      let answer = null;
      try {
        if (this.#ending.signal.aborted) return;
        url ??= await this.#enrol();
        const polled = await this.#poll(url);
        if (polled.message) answer = this.#answer(url, polled);
        url = polled.next;
        failures = 0;
        if (this.#trouble) {
          this.#say('connected again');
          this.#options.connection?.(true);
        }
        this.#trouble = '';
      } catch (error) {
        if (this.#ending.signal.aborted) return;
        if (error.gone) url = null;
        await this.#recover(error, failures++);
      } finally {
        if (answer) this.#track(answer);
        else this.#release();
      }
    }
  }

  #track(answer) {
    const done = answer.finally(() => {
      this.#answers.delete(done);
      this.#release();
    });
    this.#answers.add(done);
  }

  async #slot() {
    if (this.#free > 0) this.#free--;
    else await new Promise((go) => this.#waiting.push(go));
  }

  #release() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }

  async #enrol() {
    const body = new URLSearchParams({ name: this.#options.name });
    const init = { method: 'POST', body, headers: this.#credential() };
    const response = await this.#fetch(this.#gateway, init, PROMPT, this.#ending.signal);
    await this.#expect(response, 'registering');
    await response.body?.cancel();
    const links = linksOf(response);
    const location = response.headers.get('location');
    if (!links.first) throw new Trouble(`${this.#gateway} does not speak ReverseHttp: its answer has no Link to poll`);
    if (location) this.#private = this.#rebase(location);
    this.url = new URL(links.related ?? '/', this.#gateway).href;
    return this.#rebase(links.first);
  }

  /** Waits for a request; `next` is the URL to poll then. */
  async #poll(url) {
    const headers = { Accept: 'message/http' };
    const response = await this.#fetch(url, { headers }, POLL_LOST, this.#ending.signal);
    await this.#expect(response, 'polling');
    const link = linksOf(response).next;
    const next = link ? this.#rebase(link) : null;
    if (response.status === 204) return { next: next ?? url, message: null };
    const message = new Uint8Array(await response.arrayBuffer());
    return { next, message, remote: response.headers.get('requesting-client') };
  }

  /** Answers one request; never rejects. */
  async #answer(url, { message, remote }) {
    let answer;
    try {
      answer = await this.#ask(message, remote);
    } catch (error) {
      this.#say(`a request failed: ${error?.stack ?? error}`);
      answer = whole(new Response('Internal Server Error\n', { status: 500 }), false, [encode('Internal Server Error\n')]);
    }
    await this.#send(url, answer).catch((error) => {
      if (!this.#ending.signal.aborted) this.#say(`an answer was lost: ${reason(error)}`);
    });
  }

  async #ask(message, remote) {
    const head = parse(message);
    const request = requestOf(head, this.url);
    if (request.unable) return whole(new Response(null, { status: request.unable }), false, []);
    const info = { headers: head.headers, remote, target: head.target };
    const response = await this.#handler(request, info);
    if (!(response?.headers && response.status >= 200)) throw new TypeError('the handler returned no Response');
    const silent = head.method === 'HEAD' || [204, 205, 304].includes(response.status);
    if (silent) await response.body?.cancel();
    if (silent || !response.body) return whole(response, silent, []);
    const reader = response.body.getReader();
    const { chunks, rest } = await gather(reader, this.#streams);
    if (!rest) return whole(response, false, chunks);
    return { reader, body: () => streamed([headOf(response, null), ...chunks], rest, reader) };
  }

  async #send(url, answer) {
    const headers = { 'Content-Type': 'message/http' };
    const streams = Boolean(answer.reader);
    const init = streams ? { duplex: 'half' } : {};
    try {
      for (let tries = 1; ; tries++) {
        try {
          const request = { method: 'POST', headers, body: answer.body(), ...init };
          const response = await this.#fetch(url, request, 0, this.#cut.signal);
          await response.body?.cancel();
          // 404, 410: the visitor did not wait. Other refusals do not change by repetition.
          if (response.status < 500 || streams || tries >= ANSWER_TRIES) return;
        } catch (error) {
          if (streams || tries >= ANSWER_TRIES || this.#cut.signal.aborted) throw error;
        }
        await sleep(jitter(tries), this.#cut.signal);
      }
    } finally {
      await answer.reader?.cancel().catch(() => {});
    }
  }

  /** `fetch`, with a deadline until the head of the response has come. */
  async #fetch(url, init, deadline = PROMPT, signal = null) {
    const abort = new AbortController();
    const give = () => abort.abort();
    const timer = deadline && setTimeout(give, deadline);
    if (signal?.aborted) give();
    signal?.addEventListener('abort', give, { once: true });
    try {
      // The token goes to the relay that was named, never to where that one points.
      const always = { redirect: 'error', cache: 'no-store', credentials: 'omit', signal: abort.signal };
      return await fetch(url, { ...always, ...init });
    } catch (error) {
      // These names are this machine (RFC 6761 §6.3), but not every resolver knows them. The next attempt does without.
      const unknown = ['EAI_AGAIN', 'ENOTFOUND'].includes(error.cause?.code);
      if (unknown && this.#gateway.hostname.endsWith('.localhost')) this.#gateway.hostname = 'localhost';
      throw error;
    } finally {
      clearTimeout(timer);
      // A poll that has brought its request is read to the end.
      signal?.removeEventListener('abort', give);
    }
  }

  /** Without a token a relay may still know its agents again, by their process. */
  #credential() {
    const { token } = this.#options;
    return token ? { Authorization: `Bearer ${token}` } : { 'PTTH-Instance': this.#instance };
  }

  /** Throws unless the status is a success. */
  async #expect(response, doing) {
    if (response.ok) return;
    const { status } = response;
    const said = await detail(response);
    const { name } = this.#options;
    const at = `relay ${this.#gateway.host}`;
    if (status === 401 || status === 403) {
      const hint = 'Check the token, and that it may serve this name.';
      throw new Refused(`${at} refused the name "${name}" (${status})${said}. ${hint}`);
    }
    const trouble = new Trouble(`${at}: ${doing} failed with ${status}${said}`);
    throw Object.assign(trouble, { after: retryAfter(response), gone: status === 404 || status === 410 });
  }

  /** What the relay calls itself may differ in scheme and port (it may be behind another proxy), not in name. */
  #rebase(link) {
    const url = new URL(link, this.#gateway);
    if (url.hostname !== this.#gateway.hostname) {
      throw new Trouble(`relay ${this.#gateway.host} points to another host, ${url.host}: not followed`);
    }
    url.protocol = this.#gateway.protocol;
    url.port = this.#gateway.port;
    return url;
  }

  async #recover(error, failures) {
    if (error instanceof Refused) throw error;
    // A Request URL that is over is nothing to tell of, unless the next one is as well.
    if (!error.gone || failures > 0) this.#say(reason(error), true);
    await sleep(Math.max(error.after ?? 0, jitter(failures)), this.#ending.signal);
  }

  /** Tells; of lasting trouble only once. */
  #say(line, lasting = false) {
    if (lasting && line === this.#trouble) return;
    if (lasting && !this.#trouble) this.#options.connection?.(false);
    if (lasting) this.#trouble = line;
    (this.#options.log ?? console.warn)(`ptth: ${line}`);
  }
}

/** Full jitter: anything up to the bound, so that those who were cut off together do not come back together. */
function jitter(failures) {
  return Math.random() * Math.min(BACK_OFF_MOST, BACK_OFF * 2 ** failures);
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}

/** `fetch` hides the cause of what it calls a failure. */
function reason(error) {
  const text = error.cause?.message || error.cause?.code;
  return text ? `${error.message}: ${text}` : error.message;
}

/** What the relay says of its refusal: a problem document (RFC 9457), or a line of text. */
async function detail(response) {
  let text = (await response.text().catch(() => '')).trim();
  try {
    text = JSON.parse(text).detail;
  } catch {
    // It is text.
  }
  return text && text.length < 300 && !text.startsWith('<') ? `: ${text.replace(/\.$/, '')}` : '';
}

/** In milliseconds; 0 without the field, or where it is a date. */
function retryAfter(response) {
  return Math.min(1000 * Number(response.headers.get('retry-after')) || 0, RETRY_AFTER_MOST);
}

/** Links by their relation (RFC 8288, as far as relays use it). */
function linksOf(response) {
  const links = {};
  for (const [, url, parameters] of (response.headers.get('link') ?? '').matchAll(/<([^>]*)>([^<]*)/g)) {
    const rel = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i.exec(parameters);
    for (const name of (rel?.[1] ?? rel?.[2] ?? '').split(/\s+/)) links[name.toLowerCase()] ??= url;
  }
  return links;
}

/** The parts of an embedded request. Only the head is text, in ISO 8859-1; the body stays bytes. */
function parse(message) {
  const lines = [];
  let at = 0;
  for (let line = null; line !== ''; ) {
    const end = message.indexOf(10, at);
    if (end < 0) throw new Error('the relay sent a request without an end of its head');
    line = decode(message.subarray(at, end)).replace(/\r$/, '');
    at = end + 1;
    lines.push(line);
  }
  const [method, target, version] = lines[0].split(' ');
  if (!version?.startsWith('HTTP/')) throw new Error(`the relay sent no request: ${lines[0]}`);
  const headers = new Headers();
  for (const line of lines.slice(1, -1)) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon > 0 && !HOP.has(name)) headers.append(name, line.slice(colon + 1).trim());
  }
  let body = message.subarray(at);
  const length = headers.get('content-length');
  if (length !== null && /^\d+$/.test(length) && length < body.length) body = body.subarray(0, Number(length));
  return { method, target, headers, body };
}

/** A `Request`; or, with the status to answer with, what the platform cannot put into one. */
function requestOf({ method, target, headers, body }, url) {
  const own = new URL(url);
  const host = /^[^\s/?#@\\]+$/.exec(headers.get('host') ?? '')?.[0] ?? own.host;
  const proto = /^https?$/.exec(headers.get('x-forwarded-proto') ?? '')?.[0];
  const origin = `${proto ? `${proto}:` : own.protocol}//${host}`;
  const at = target.startsWith('/') ? origin + target : target === '*' ? `${origin}/` : target;
  if (/^(CONNECT|TRACE|TRACK)$/i.test(method)) return { unable: 501 };
  const bodiless = method === 'GET' || method === 'HEAD';
  return new Request(at, { method, headers, body: bodiless ? null : body });
}

/** An answer in one piece. A `silent` one has a head that speaks of a body that is not there. */
function whole(response, silent, chunks) {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const message = join([headOf(response, silent ? null : length), ...chunks]);
  return { body: () => message };
}

/** Head of an embedded response. Without a `length` to state, the one that the application stated stands. */
function headOf(response, length) {
  // What came out of fetch() was decoded on the way.
  const decoded = response.url && response.headers.has('content-encoding');
  const skip = (name) => HOP.has(name) || (decoded && name === 'content-encoding');
  const counted = (name) => name === 'content-length' && (length !== null || decoded);
  let head = `HTTP/1.1 ${response.status} ${(response.statusText ?? '').replace(/[^\t -~\x80-\xff]/g, '')}\r\n`;
  for (const [name, value] of response.headers) {
    if (skip(name) || counted(name)) continue;
    // Where fields cannot be had apart, several cookies come as one line.
    const apart = name !== 'set-cookie' || response.headers.getSetCookie;
    for (const line of apart ? [value] : value.split(COOKIES)) head += `${name}: ${line}\r\n`;
  }
  if (length !== null) head += `content-length: ${length}\r\n`;
  return encode(`${head}\r\n`);
}

/** Reads a body to its end, or until it proves to be long or slow: then `rest` is the read that is under way. */
async function gather(reader, streams) {
  const chunks = [];
  for (let size = 0; ; ) {
    const rest = reader.read();
    if (streams && (size > WHOLE || !(await soon(rest)))) return { chunks, rest };
    const { done, value } = await rest;
    if (done) return { chunks, rest: null };
    chunks.push(bytes(value));
    size += value.length;
  }
}

/** Whether a promise settles within a moment. */
async function soon(promise) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, PAUSE, false)));
  const settled = promise.then(() => true, () => true);
  const first = await Promise.race([settled, late]);
  clearTimeout(timer);
  return first;
}

/** If the application fails half-way, so does this stream, and the visitor sees that the response is cut short. */
function streamed(chunks, rest, reader) {
  return new ReadableStream({
    async pull(controller) {
      if (chunks.length > 0) return controller.enqueue(chunks.shift());
      const { done, value } = await rest;
      if (done) return controller.close();
      rest = reader.read();
      rest.catch(() => {});
      controller.enqueue(bytes(value));
    },
    cancel: (why) => reader.cancel(why),
  });
}

function bytes(chunk) {
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError('a response body must consist of Uint8Arrays');
}

function join(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** ISO 8859-1, which `TextDecoder` does not have (its "latin1" is windows-1252). */
function decode(part) {
  return Array.from(part, (byte) => String.fromCharCode(byte)).join('');
}

function encode(text) {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}
