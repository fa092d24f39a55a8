// gRPC as its users have it: the server behind an agent, the client in front of the relay, both of @grpc/grpc-js.
//
//   node grpc.js NODE_MODULES serve             prints its port, and one line for each call of Hang that is cancelled
//   node grpc.js NODE_MODULES visit PORT CA     prints the name of each kind of call that went as it should
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const [modules, mode, port, ca] = process.argv.slice(2);
const grpc = require(`${modules}/@grpc/grpc-js`);

const as = (x) => x;
const method = (name, requestStream, responseStream) => ({
  path: `/test.Test/${name}`, requestStream, responseStream,
  requestSerialize: as, requestDeserialize: as, responseSerialize: as, responseDeserialize: as,
});
const service = {
  Unary: method('Unary', false, false),
  Fail: method('Fail', false, false),
  Down: method('Down', false, true),
  Up: method('Up', true, false),
  Both: method('Both', true, true),
  Hang: method('Hang', false, true),
};
const LARGE = Buffer.alloc(1 << 20, 'x');

function serve() {
  const server = new grpc.Server({ 'grpc.max_receive_message_length': 4 << 20 });
  server.addService(service, {
    Unary: (call, done) => {
      const trailer = new grpc.Metadata();
      trailer.set('x-mine', String(call.metadata.get('x-mine')[0]));
      done(null, call.request, trailer);
    },
    Fail: (call, done) => done({ code: grpc.status.NOT_FOUND, details: 'no such thing, größe' }),
    Down: (call) => {
      for (let n = 0; n < 5; n++) call.write(Buffer.from(String(n)));
      const trailer = new grpc.Metadata();
      trailer.set('x-count', '5');
      call.end(trailer);
    },
    Up: (call, done) => {
      let bytes = 0;
      call.on('data', (part) => (bytes += part.length));
      call.on('end', () => done(null, Buffer.from(String(bytes))));
    },
    Both: (call) => {
      call.on('data', (part) => call.write(part));
      call.on('end', () => call.end());
    },
    Hang: (call) => {
      call.on('cancelled', () => console.log('cancelled'));
      call.write(Buffer.from('begun'));
    },
  });
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
    if (error) throw error;
    console.log(bound);
  });
}

const ended = (call) =>
  new Promise((resolve) => {
    const got = [];
    call.on('data', (part) => got.push(part.toString()));
    call.on('error', () => {});
    call.on('status', (status) => resolve([status, got]));
  });

async function visit() {
  const host = 'shop.ptth.localhost';
  const Client = grpc.makeGenericClientConstructor(service, 'Test');
  const client = new Client(`ipv4:127.0.0.1:${port}`, grpc.credentials.createSsl(fs.readFileSync(ca)), {
    'grpc.ssl_target_name_override': host, 'grpc.default_authority': `${host}:${port}`,
  });

  const metadata = new grpc.Metadata();
  metadata.set('x-mine', 'kept');
  await new Promise((resolve) => {
    const call = client.Unary(LARGE, metadata, (error, answer) => {
      assert.ifError(error);
      assert(answer.equals(LARGE));
    });
    call.on('status', (status) => {
      assert.deepStrictEqual(status.metadata.get('x-mine'), ['kept']);
      resolve();
    });
  });
  console.log('unary');

  const failure = await new Promise((resolve) => client.Fail(Buffer.alloc(0), resolve));
  assert.strictEqual(failure.code, grpc.status.NOT_FOUND);
  assert.strictEqual(failure.details, 'no such thing, größe');
  console.log('status');

  const [down, parts] = await ended(client.Down(Buffer.alloc(0)));
  assert.deepStrictEqual([down.code, down.metadata.get('x-count'), parts], [0, ['5'], ['0', '1', '2', '3', '4']]);
  console.log('server streaming');

  const bytes = await new Promise((resolve, reject) => {
    const call = client.Up((error, answer) => (error ? reject(error) : resolve(answer.toString())));
    for (let n = 0; n < 5; n++) call.write(LARGE);
    call.end();
  });
  assert.strictEqual(bytes, String(5 * LARGE.length));
  console.log('client streaming');

  const both = client.Both();
  const over = ended(both);
  for (let n = 0; n < 5; n++) {
    // Each comes back before the next is sent.
    const back = new Promise((resolve) => both.once('data', resolve));
    both.write(Buffer.from(`ping ${n}`));
    assert.strictEqual((await back).toString(), `ping ${n}`);
  }
  both.end();
  assert.strictEqual((await over)[0].code, 0);
  console.log('bidirectional streaming');

  const [late] = await ended(client.Hang(Buffer.alloc(0), { deadline: Date.now() + 500 }));
  assert.strictEqual(late.code, grpc.status.DEADLINE_EXCEEDED);
  console.log('deadline');

  const call = client.Hang(Buffer.alloc(0));
  call.once('data', () => call.cancel());
  assert.strictEqual((await ended(call))[0].code, grpc.status.CANCELLED);
  console.log('cancel');
  client.close();
}

if (mode === 'serve') serve();
else visit().catch((error) => { console.error(error); process.exit(1); });
