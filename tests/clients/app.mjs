// What the tests serve from Node.js. Arguments: the relay.
import { serve, Refused } from '../../clients/js/ptth.js';

const encoder = new TextEncoder();
let met, go;
const both = new Promise((resolve) => (met = resolve));
const gone = new Promise((resolve) => (go = resolve));
let arrived = 0;

async function* twice(end) {
  yield encoder.encode('first\n');
  await gone;
  if (end === 'broken') throw new Error('half-way');
  yield encoder.encode('second\n');
}

/** `ReadableStream.from`, which Node.js 18 does not have. */
function streamOf(pieces) {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function app(request, info) {
  const { pathname, search } = new URL(request.url);
  switch (pathname) {
    case '/echo':
      return new Response(await request.arrayBuffer(), { headers: { 'X-Length': request.headers.get('content-length') } });
    case '/none':
      return new Response(null, { status: 204 });
    case '/fail':
      throw new Error('deliberate failure');
    case '/meet':
      if (++arrived === 2) met();
      await both;
      return new Response('met');
    case '/stream':
    case '/broken':
      return new Response(streamOf(twice(pathname.slice(1))));
    case '/go':
      go();
      return new Response('gone');
    default: {
      const headers = [['X-Cookie', info.headers.get('cookie') ?? ''], ['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2']];
      return new Response(`${request.method} ${pathname}${search}`, { headers });
    }
  }
}

try {
  const agent = await serve({ relay: process.argv[2], name: 'shop', token: process.env.PTTH_TOKEN }, app);
  console.log(agent.url);
  process.on('SIGINT', () => agent.stop());
  await agent.ended;
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(error.message);
  process.exitCode = 3;
}
