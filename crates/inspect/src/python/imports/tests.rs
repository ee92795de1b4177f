//! Tests of telling imports that are sure to run from others.

use super::*;

fn imports(text: &str) -> Vec<(String, u32, Runs)> {
    let source = Source::parse(text.as_bytes()).unwrap();
    source
        .import_list()
        .into_iter()
        .map(|i| {
            let dots = ".".repeat(i.dots);
            (format!("{dots}{}", i.module), i.line, i.runs)
        })
        .collect()
}

fn runs(text: &str) -> Vec<Runs> {
    imports(text).into_iter().map(|(_, _, runs)| runs).collect()
}

#[test]
fn modules_and_lines_are_told() {
    let text = "import a.b, c as d\n\nfrom e . f import (g as h,\n  i)\nfrom .. import j\nfrom .k.l import *\n";
    let found = imports(text);
    let expected = [("a.b", 1), ("c", 1), ("e.f", 3), ("..", 5), (".k.l", 6)];
    assert_eq!(
        found,
        expected.map(|(m, l)| (m.to_owned(), l, Runs::Always))
    );
    let names = Source::parse(text.as_bytes()).unwrap().import_list();
    assert_eq!(names[2].names, ["g", "i"]);
    assert_eq!(names[3].names, ["j"]);
    assert!(names[4].names.is_empty());
}

#[test]
fn what_surrounds_an_import_says_whether_it_runs() {
    use Runs::{Always, Later, Never, Optional, Perhaps};
    for (text, expected) in [
        (
            "try:\n  import a\nexcept ImportError:\n  a = None\n",
            vec![Optional],
        ),
        (
            "try:\n  import a\nexcept (ImportError, OSError) as e:\n  pass\n",
            vec![Optional],
        ),
        ("try:\n  import a\nexcept:\n  pass\n", vec![Optional]),
        (
            "try:\n  import a\nexcept Exception:\n  pass\nelse:\n  import b\n",
            vec![Optional, Perhaps],
        ),
        (
            "try:\n  import a\nexcept KeyError:\n  import b\n",
            vec![Always, Perhaps],
        ),
        (
            "try:\n  import a\nfinally:\n  import b\n",
            vec![Always, Always],
        ),
        ("if TYPE_CHECKING:\n  import a\n", vec![Never]),
        (
            "if typing.TYPE_CHECKING:\n  import a\nelse:\n  import b\n",
            vec![Never, Always],
        ),
        ("if __name__ == '__main__':\n  import a\n", vec![Never]),
        (
            "if sys.version_info >= (3, 11):\n  import a\nelse:\n  import b\n",
            vec![Optional, Optional],
        ),
        (
            "if x:\n  import a\nelif y:\n  import b\nelse:\n  import c\n",
            vec![Perhaps; 3],
        ),
        (
            "with contextlib.suppress(ImportError):\n  import a\n",
            vec![Optional],
        ),
        ("with open('x') as f:\n  import a\n", vec![Always]),
        ("def f():\n  import a\n", vec![Later]),
        (
            "def get_model():\n  import a\n  if x:\n    import b\n  def g():\n    import c\n",
            vec![Always, Perhaps, Later],
        ),
        (
            "class A:\n  import a\n  def get_model(self):\n    import b\n",
            vec![Always, Later],
        ),
        ("@cache\ndef get_model():\n  import a\n", vec![Always]),
        (
            "for x in y:\n  import a\nelse:\n  import b\n",
            vec![Perhaps, Perhaps],
        ),
        ("match x:\n  case 1:\n    import a\n", vec![Perhaps]),
        ("async def f():\n  import a\n", vec![Later]),
    ] {
        assert_eq!(runs(text), expected, "{text}");
    }
}

#[test]
fn what_a_handler_imports_stands_in_for_what_was_tried() {
    let text = "try:\n  import ujson, a.b\nexcept ImportError:\n  import json as ujson\n";
    let found = Source::parse(text.as_bytes()).unwrap().import_list();
    assert_eq!(found[2].module, "json");
    assert_eq!(found[2].instead_of, ["ujson", "a.b"]);
    assert_eq!(found[2].runs, Runs::Always);
}

#[test]
fn nesting_beyond_what_python_allows_is_left() {
    let mut text: String = (0..400)
        .map(|i| format!("{}if x:\n", " ".repeat(i)))
        .collect();
    text.push_str(&format!("{}import a\n", " ".repeat(400)));
    assert!(imports(&text).is_empty());
}
