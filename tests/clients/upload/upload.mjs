// Uploads with Node.js, over HTTP/1.1 or HTTP/2: upload.mjs URL CA BYTES COUNT [h2].
// Prints the status or the error of each upload.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { Readable } from 'node:stream';

const [address, ca, size, count, version] = process.argv.slice(2);
const url = new URL(address);
const body = Buffer.alloc(Number(size), 'x');
const trust = { ca: readFileSync(ca) };
const headers = { 'content-length': body.length };

function http1() {
  return new Promise((done) => {
    const { request } = url.protocol === 'https:' ? https : http;
    const upload = request(url, { method: 'POST', headers, agent: false, ...trust });
    upload.once('response', (answer) => {
      answer.resume();
      answer.once('end', () => {
        upload.destroy();
        done(answer.statusCode);
      });
      answer.once('error', done);
    });
    upload.on('error', done);
    upload.end(body);
  });
}

// Node.js limits the memory of a session, so the body is written in pieces.
function* pieces() {
  for (let at = 0; at < body.length; at += 65536) yield body.subarray(at, at + 65536);
}

function overHttp2() {
  return new Promise((done) => {
    const session = http2.connect(url.origin, trust);
    session.once('error', done);
    const upload = session.request({ ':method': 'POST', ':path': url.pathname, ...headers });
    let status;
    let failure;
    upload.once('response', (answer) => {
      status = answer[':status'];
    });
    upload.once('error', (error) => {
      failure = error;
    });
    upload.once('close', () => {
      session.destroy();
      done(failure ?? status);
    });
    upload.resume();
    Readable.from(pieces()).pipe(upload);
  });
}

for (let i = 0; i < Number(count); i += 1) console.log(String(await (version === 'h2' ? overHttp2() : http1())));
process.exit(0);
