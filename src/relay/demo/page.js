// The demo page: this tab answers requests. Data from visitors is shown as text, never as HTML.
import { serve } from '/ptth.js';

/** The most visits that are shown; the oldest are removed first. */
const SHOWN = 100;
/** The key under which this tab stores its secret, so that the tab gets its name back after a reload. */
const SECRET = 'ptth-demo-secret';
const ANSWERS = 'This tab answers at';

const element = (id) => document.getElementById(id);
const [form, name, token, text, file] = ['form', 'name', 'token', 'text', 'file'].map(element);
const [button, state, link, visits] = ['button', 'state', 'url', 'visits'].map(element);
const [serving, copy, code, none] = ['serving', 'copy', 'code', 'none'].map(element);
const open = document.documentElement.dataset.registration === 'open';
let agent = null;

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function random(bytes) {
  return hex(crypto.getRandomValues(new Uint8Array(bytes)));
}

/** The secret that identifies this tab to a relay with open registration. */
function secret() {
  try {
    const stored = sessionStorage.getItem(SECRET) ?? random(16);
    sessionStorage.setItem(SECRET, stored);
    return stored;
  } catch {
    return random(16);
  }
}

/** The length of a body, and its digest if the browser offers SHA-256, which it does on secure origins. */
async function describe(body) {
  if (body.byteLength === 0) return '';
  const digest = await globalThis.crypto.subtle?.digest('SHA-256', body);
  return `, ${body.byteLength} bytes${digest ? `, SHA-256 ${hex(new Uint8Array(digest))}` : ''}`;
}

function show(line) {
  const item = document.createElement('li');
  item.textContent = line;
  visits.append(item);
  none.hidden = true;
  while (visits.children.length > SHOWN) visits.firstElementChild.remove();
}

async function answer(request, { headers, remote, target }) {
  const body = await describe(await request.arrayBuffer());
  const client = headers.get('user-agent') ?? 'an unknown client';
  show(`${new Date().toLocaleTimeString()} ${request.method} ${target}${body}, by ${client} at ${remote ?? 'an unknown address'}`);
  const [chosen] = file.files;
  if (!chosen) return new Response(text.value, { headers: { 'Content-Type': 'text/plain; charset=utf-8' } });
  const type = chosen.type || 'application/octet-stream';
  return new Response(await chosen.arrayBuffer(), { headers: { 'Content-Type': type } });
}

/** Shows a line about the relay. `problem`: visitors get no answer at the moment. */
function report(line, problem = false) {
  state.textContent = line;
  state.className = problem ? 'problem' : '';
}

function settle(line, running, problem = false) {
  report(line, problem);
  button.textContent = running ? 'Stop' : 'Answer here';
  name.disabled = token.disabled = running;
  serving.hidden = !running;
}

/** The relay can be reached again, or no more. */
function connection(connected) {
  if (connected) report(ANSWERS);
  else report('The relay cannot be reached: visitors get no answer. Trying again …', true);
}

async function start() {
  const stop = new AbortController();
  agent = { stop: () => stop.abort() };
  settle('Registering …', true);
  serving.hidden = true;
  try {
    const credential = token.value.trim() || (open ? secret() : undefined);
    const [chosen, signal] = [name.value.trim(), stop.signal];
    const options = { relay: location.origin, name: chosen, token: credential, signal, connection };
    const served = await serve(options, answer);
    agent = served;
    link.href = link.textContent = served.url;
    code.src = `/demo.svg?name=${encodeURIComponent(chosen)}`;
    settle(ANSWERS, true);
    await served.ended;
    settle('Stopped.', false);
  } catch (error) {
    const stopped = stop.signal.aborted;
    settle(stopped ? 'Stopped.' : error.message, false, !stopped);
  }
  agent = null;
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (agent) agent.stop();
  else start();
});
copy.addEventListener('click', async () => {
  // Browsers offer the clipboard on secure origins only; elsewhere the URL is selected, to be copied by hand.
  try {
    await navigator.clipboard.writeText(link.href);
    copy.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(link);
    copy.textContent = 'Selected';
  }
  setTimeout(() => (copy.textContent = 'Copy'), 2000);
});
addEventListener('pagehide', () => agent?.stop());

name.value = `tab-${random(4)}`;
element('hint').textContent = open
  ? 'Not needed: this relay gives free names to agents without a token.'
  : 'Needed: this relay gives names only to agents with a token.';
token.required = !open;
