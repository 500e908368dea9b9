"""Judges what a program printed. Standard input: any bytes. Standard output: what is wrong with
them, a line each; nothing where all is well.

    printable.py text    UTF-8 whose every character but the line end is printable
    printable.py json    the same, and a JSON object of RFC 8259 on every line
"""
import json
import sys
import unicodedata

# Controls, formats (direction and width of what is written), surrogates, lines and paragraphs.
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def refuse(word):
    raise ValueError("not JSON: " + word)


def unique(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def main():
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as problem:
        return print(problem)
    for line in text.split("\n"):
        for character in line:
            if unicodedata.category(character) in STEERING:
                print("U+%04X in %s" % (ord(character), ascii(line)))
        if sys.argv[1] == "json" and line:
            try:
                if not isinstance(json.loads(line, parse_constant=refuse, object_pairs_hook=unique), dict):
                    print("no object: " + ascii(line))
            except ValueError as problem:
                print("%s: %s" % (problem, ascii(line)))


main()
