// The publish bench's peer in Node: node:http and ws. Argument: the port. One process, one loop.
'use strict'
const http = require('node:http')
const { WebSocketServer } = require('ws')

const topics = new Map()
const asText = { binary: false }

function publish (topic, data) {
  for (const client of topics.get(topic) ?? []) client.send(data, asText)
}

function subscribe (topic, client) {
  if (!topics.has(topic)) topics.set(topic, new Set())
  topics.get(topic).add(client)
  client.on('close', () => {
    const clients = topics.get(topic)
    clients.delete(client)
    if (clients.size === 0) topics.delete(topic)
  })
}

const server = http.createServer((request, response) => {
  response.statusCode = 404
  response.end()
})
const sockets = new WebSocketServer({ server, perMessageDeflate: false })
sockets.on('connection', (client, request) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost')
  const topic = pathname === '/ws' ? searchParams.get('topic') : 'bench'
  if (pathname === '/ws') subscribe(topic, client)
  // What arrives is a Buffer, and goes out as it is: nothing is encoded for each subscriber.
  client.on('message', (data, isBinary) => { if (!isBinary) publish(topic, data) })
  client.on('error', () => {})
})
server.listen(Number(process.argv[2]), '127.0.0.1', 4096)
