// A job for tests/test_real_programs.sh: strings, maps, buffers, compression, a
// worker thread and a child that fails.
// usage: node job.js ROUNDS
'use strict';
const { spawnSync } = require('child_process');
const { createHash } = require('crypto');
const { Worker } = require('worker_threads');
const zlib = require('zlib');

const rounds = Number(process.argv[2]);
const words = new Map();
for (let i = 0; i < rounds; i++) {
    const word = 'w' + (i * 7919) % 1009;
    words.set(word, (words.get(word) ?? '') + i + ',');
}
const text = [...words].sort().map(([word, places]) => word + ' ' + places).join('\n');
const packed = zlib.deflateSync(Buffer.from(text));
console.log(words.size, text.length, zlib.inflateSync(packed).equals(Buffer.from(text)));
console.log(createHash('sha256').update(text).digest('hex'));
console.log('child', spawnSync('/bin/false').status);

const worker = new Worker(
    `const { parentPort, workerData } = require('worker_threads');
     const blocks = [];
     for (let i = 0; i < workerData; i++) blocks.push(Buffer.alloc(1 + (i * 37) % 3000, i % 256));
     parentPort.postMessage(blocks.reduce((sum, block) => sum + block.length + block[0], 0));`,
    { eval: true, workerData: rounds });
worker.on('message', sum => console.log('worker', sum));
worker.on('exit', () => { process.exitCode = 6; });
