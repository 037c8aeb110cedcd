"""A job for the benchmark and the tests: syntax trees of Python's own library,
JSON there and back, text in dictionaries. Meant to run with PYTHONMALLOC=malloc,
so that every object is a malloc.

usage: python3 document.py [FILES [RECORDS]]
"""
import ast
import glob
import json
import os
import re
import sys

files = int(sys.argv[1]) if len(sys.argv) > 1 else 60
records = int(sys.argv[2]) if len(sys.argv) > 2 else 12000

nodes = 0
for path in sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:files]:
    with open(path, encoding="utf-8") as source:
        nodes += sum(1 for _ in ast.walk(ast.parse(source.read())))

people = [{"id": i, "name": "name %d" % (i * 7919 % 10007), "tags": ["t%d" % (i % k) for k in (3, 5, 7)],
           "nested": {"score": i / 7, "next": [i + 1, i + 2]}} for i in range(records)]
text = json.dumps(people, indent=1)
again = json.loads(text)
words = {}
for word in re.findall(r"[a-z0-9]+", text):
    words.setdefault(word, []).append(len(words))
order = sorted(words, key=lambda w: (-len(words[w]), w))
print(nodes, len(text), again == people, len(words), order[:5])
