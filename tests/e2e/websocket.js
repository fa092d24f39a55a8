// WebSockets as their users have them: the package ws on both sides, with compression.
//
//   node websocket.js NODE_MODULES serve             prints its port, and how each socket was closed
//   node websocket.js NODE_MODULES visit PORT CA     prints what went as it should
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const tls = require('node:tls');
const [modules, mode, port, ca] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = require(`${modules}/ws`);

function serve() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: { threshold: 0 } });
  server.on('listening', () => console.log(server.address().port));
  server.on('connection', (socket, request) => {
    socket.on('message', (data, binary) => {
      if (data.toString() === 'close') return socket.close(4002, 'by the origin');
      if (data.toString() === 'extensions') return socket.send(socket.extensions);
      socket.send(data, { binary });
    });
    socket.on('close', (code, reason) => console.log(`${code} ${reason}`));
  });
}

const host = 'shop.ptth.localhost';
const next = (socket, event) => new Promise((resolve, reject) => {
  socket.once(event, (...values) => resolve(values));
  socket.once('error', reject);
});

async function open() {
  const createConnection = () => tls.connect({
    host: '127.0.0.1', port: Number(port), servername: host, ca: fs.readFileSync(ca), ALPNProtocols: ['http/1.1'],
  });
  const socket = new WebSocket(`wss://${host}:${port}/`, ['one', 'two'], {
    createConnection, perMessageDeflate: { threshold: 0, clientMaxWindowBits: 10 },
  });
  await next(socket, 'open');
  return socket;
}

async function visit() {
  let socket = await open();
  assert.strictEqual(socket.extensions, 'permessage-deflate');
  assert.strictEqual(socket.protocol, 'one');
  socket.send('extensions');
  assert.strictEqual((await next(socket, 'message'))[0].toString(), socket.extensions);
  console.log('compression');

  // What cannot be compressed, and what can.
  for (const message of [require('node:crypto').randomBytes(1 << 20), Buffer.alloc(1 << 20, 'x')]) {
    socket.send(message);
    const [back, binary] = await next(socket, 'message');
    assert(binary && back.equals(message));
  }
  console.log('messages');

  const pong = next(socket, 'pong');
  socket.ping('are you there');
  assert.strictEqual((await pong)[0].toString(), 'are you there');
  console.log('ping');

  socket.close(4001, 'by the visitor');
  assert.deepStrictEqual((await next(socket, 'close')).map(String), ['4001', 'by the visitor']);
  socket = await open();
  socket.send('close');
  assert.deepStrictEqual((await next(socket, 'close')).map(String), ['4002', 'by the origin']);
  console.log('close');
}

if (mode === 'serve') serve();
else visit().catch((error) => { console.error(error); process.exit(1); });
