"""The safetensors format in Python, written from its description and not from
memopt: an independent reader and writer for test_safetensors.sh.

    safetensors.py check FILE    what examples/safetensors saves is in it
    safetensors.py make FILE     a file as the Python package lays it out
"""
import json
import struct
import sys

SIZES = {"F32": 4, "I64": 8, "BF16": 2, "U8": 1}


def read(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    assert length <= 100_000_000 and 8 + length <= len(data)
    assert data[8:9] == b"{"

    def unique(pairs):
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=unique)
    metadata = header.pop("__metadata__", {})
    end = 0
    for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = info["data_offsets"]
        size = SIZES[info["dtype"]]
        for dimension in info["shape"]:
            size *= dimension
        assert first == end and last - first == size, name
        end = last
        info["bytes"] = data[8 + length + first : 8 + length + last]
        info["at"] = 8 + length + first
    assert 8 + length + end == len(data)
    return metadata, header, 8 + length


def check(path):
    metadata, tensors, start = read(path)
    assert metadata == {"format": "pt"}
    assert start % 4096 == 0
    assert set(tensors) == {"hidden.weight", "hidden.bias", "step"}
    weight, bias, step = (tensors[n] for n in ("hidden.weight", "hidden.bias", "step"))
    assert weight["shape"] == [3, 4] and step["shape"] == []
    assert struct.unpack("<12f", weight["bytes"]) == tuple(range(12))
    assert struct.unpack("<3f", bias["bytes"]) == (0, 0.5, 1)
    assert struct.unpack("<q", step["bytes"]) == (1000,)
    for tensor in tensors.values():
        assert tensor["at"] % SIZES[tensor["dtype"]] == 0


def make(path):
    tensors = {
        "big": ("F32", [2, 3], struct.pack("<6f", *range(6))),
        "é": ("BF16", [0, 7], b""),
        "tiny": ("U8", [3], b"abc"),
    }
    header, data = {"__metadata__": {"made": "by hand"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


{"check": check, "make": make}[sys.argv[1]](sys.argv[2])
