// An agent made of the npm package reverse-http, as its documentation shows it. Arguments: the directory of the
// package, the port of the relay, the path to register at, the token.
'use strict'

const [modules, port, path, token] = process.argv.slice(2)
const reverseHttp = require(`${modules}/reverse-http`)

const options = { host: '127.0.0.1', port: Number(port), path, headers: { Authorization: `Bearer ${token}` } }
const server = reverseHttp(options, (request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const body = Buffer.concat(chunks)
    response.setHeader('X-Framing', request.headers['transfer-encoding'] || request.headers['content-length'] || 'none')
    if (request.url === '/echo') {
      response.end(body)
    } else {
      response.write(`${request.method} ${request.url} `)
      response.end(`${request.headers.host} ${body.length}\n`)
    }
  })
})
server.on('connection', () => console.log('connected'))
server.on('error', (error) => {
  console.log(`error: ${error.message}`)
  process.exit(1)
})
