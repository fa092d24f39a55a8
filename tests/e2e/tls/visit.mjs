// Opens a TLS connection of Node.js to a relay on this machine, as HOST: visit.mjs PORT HOST CA.

import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, connect } from 'node:tls';

const [port, host, ca] = process.argv.slice(2);
const socket = connect({
  host: '127.0.0.1',
  port: Number(port),
  servername: isIP(host) ? '' : host,
  ca: readFileSync(ca),
  checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
});
socket.once('secureConnect', () => {
  console.log('accepted');
  socket.destroy();
});
socket.once('error', (error) => {
  console.error(`refused: ${error.code}: ${error.message}`);
  process.exitCode = 1;
});
