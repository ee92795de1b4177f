//! Tests of reading Python source.

use proptest::prelude::*;

use super::*;

fn defines(text: &str) -> Defined {
    let source = Source::parse(text.as_bytes()).unwrap();
    assert_eq!(source.syntax(), Syntax::Fine, "{text}");
    source.defines("get_model")
}

#[test]
fn every_way_to_define_get_model_is_seen() {
    for text in [
        "def get_model():\n    return 1\n",
        "@cache\ndef get_model(): ...\n",
        "get_model = lambda: 1\n",
        "get_model: Callable = f\n",
        "a = get_model = f\n",
        "a, get_model = f, g\n",
        "(get_model := f)\n",
        "from x import get_model\n",
        "from x import (a, get_model)\n",
        "from .x import build as get_model\n",
        "import x as get_model\n",
        "class get_model: pass\n",
        "try:\n    from x import get_model\nexcept ImportError:\n    def get_model(): pass\n",
        "if True:\n    def get_model(): pass\nelse:\n    x = 1\n",
        "with a as b:\n    get_model = b\n",
        "async def get_model(): pass\ndef get_model(): pass\n",
    ] {
        assert_eq!(defines(text), Defined::Yes, "{text}");
    }
    for text in [
        "from x import *\n",
        "globals()['get_model'] = f\n",
        "exec(open('x').read())\n",
        "def __getattr__(name): return f\n",
    ] {
        assert_eq!(defines(text), Defined::Perhaps, "{text}");
    }
    assert_eq!(defines("async def get_model(): pass\n"), Defined::Async);
    for text in [
        "",
        "def getmodel(): pass\n",
        "class A:\n    def get_model(self): pass\n",
        "def f():\n    get_model = 1\n    def get_model(): pass\n",
        "import get_model.x as y\n",
        "from get_model import x\n",
        "x.get_model = f\n",
        "x[get_model] = f\n",
        "print(get_model)\n",
        "f(get_model=1)\n",
        "# def get_model(): pass\n'''\ndef get_model(): pass\n'''\n",
    ] {
        assert_eq!(defines(text), Defined::No, "{text}");
    }
}

#[test]
fn syntax_of_every_served_python_parses() {
    let text = r#"# -*- coding: utf-8 -*-
from __future__ import annotations
import os, sys as system
match = 1
type = 2
print(match, type, file=sys.stderr)
def f(a, /, b: int = 1, *args, c, **kw) -> dict[str, int]: return {**kw, "a": a}
with (open("a") as x, open("b") as y):
    pass
match f(1, c=2):
    case {"a": [1, *rest], **others} if rest: pass
    case Point(x=0) | None: pass
    case _: pass
try:
    pass
except* (ValueError, TypeError) as group:
    pass
type Alias[T: int, *Ts, **P] = list[T]
class Box[T](Base, metaclass=Meta): x: T = None
def first[T](items: list[T]) -> T: return items[0]
x = f"{a!r:>{width}} {'nested'} {x=}"
y = f"{", ".join(["a"])}"
@(lambda f: f)
def g(): return (yield), *a
a[*b] = c
async def h():
    async for i in j: await i
    return [i async for i in j]
z = 0x_ff + 1_000j if (n := 10) else ...
del (x), y
lambda *a, k=1: (yield)
"#;
    let source = Source::parse(text.as_bytes()).unwrap();
    assert_eq!(source.syntax(), Syntax::Fine);
}

#[test]
fn a_syntax_error_has_its_place() {
    let text = "import os\n\ndef get_model(:\n    return 1\n";
    let Syntax::Bad(at) = Source::parse(text.as_bytes()).unwrap().syntax() else {
        panic!()
    };
    assert_eq!((at.line, at.text.as_str()), (3, "def get_model(:"));
    assert!(at.column > 1, "{at:?}");
    for text in [
        "x = (1,\n",
        "print 'hello' 1\n",
        "def f()\n  pass\n",
        "é = = 1\n",
        "class\n",
    ] {
        let syntax = Source::parse(text.as_bytes()).unwrap().syntax();
        assert!(matches!(syntax, Syntax::Bad(_)), "{text}");
    }
}

#[test]
fn syntax_newer_than_the_grammar_is_not_judged() {
    for line in [
        "type Alias[T: int = str] = list[T]",
        "class Box[T = int](Base): pass",
        "async def f[T, *Ts = *tuple[int]](x): pass",
        "def f(): return 1, *[1]",
    ] {
        let text = format!("if 1:\n    pass\n{line}\ndef get_model(): pass\n");
        assert_eq!(
            Source::parse(text.as_bytes()).unwrap().syntax(),
            Syntax::Unknown,
            "{line}"
        );
    }
    let text = "class Box[T = int](Base): pass\ndef f(:\n";
    assert_ne!(
        Source::parse(text.as_bytes()).unwrap().syntax(),
        Syntax::Fine
    );
}

#[test]
fn deep_nesting_is_walked_without_recursion() {
    let text = format!("x = {}1{}\n", "(".repeat(20_000), ")".repeat(20_000));
    if let Some(source) = Source::parse(text.as_bytes()) {
        let _ = (
            source.syntax(),
            source.import_list(),
            source.defines("get_model"),
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(content in prop::collection::vec(any::<u8>(), 0..300), text in "[a-z():=\\n \"'\\[\\]{}]{0,80}") {
        for text in [&content[..], text.as_bytes()] {
            let source = Source::parse(text).unwrap();
            let _ = (source.syntax(), source.import_list(), source.defines("get_model"));
        }
    }
}
