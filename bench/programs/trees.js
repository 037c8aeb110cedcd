// A job for the benchmark: binary trees of objects, strings as keys, JSON there and back,
// for the interpreters that take each object from malloc (Duktape, MuJS).
// usage: duk trees.js, mujs trees.js
function build(d) { return d === 0 ? { left: null, right: null } : { left: build(d - 1), right: build(d - 1) }; }
function count(t) { return t.left === null ? 1 : 1 + count(t.left) + count(t.right); }

var kept = build(12), sum = 0, words = {};
for (var i = 0; i < 16; i++) {
    sum += count(build(12 - i % 3));
    for (var k = 0; k < 4000; k++) {
        var w = "word " + (k * 7919 % 997);
        words[w] = (words[w] || []).concat([k]).slice(-5);
    }
}
var text = JSON.stringify(words);
print(sum, count(kept), text.length, JSON.stringify(JSON.parse(text)) === text);
