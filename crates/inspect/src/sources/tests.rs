//! Tests of finding what runs.

use super::*;
use crate::testing::package;

fn sources(files: &[(&str, &str)]) -> Sources {
    let dir = package(files);
    let names = crate::files::list(dir.path()).unwrap();
    let mut found = Sources::read(dir.path(), &names).unwrap();
    found.look_up(dir.path(), BTreeSet::new()).unwrap();
    found
}

#[test]
fn what_runs_is_found_along_the_imports() {
    let found = sources(&[
        (
            "package.py",
            "import helper\nfrom .sub import x\ndef f():\n  import lazy\n",
        ),
        ("helper.py", "from sub.deep.y import z\n"),
        ("lazy.py", ""),
        ("train.py", ""),
        ("sub/__init__.py", "from . import w\n"),
        ("sub/x.py", ""),
        ("sub/w.py", "from .. import sibling\n"),
        ("sub/deep/y.py", "z = 1\n"),
        ("sibling.py", ""),
    ]);
    let runs = |file: &str| found.files[file].runs;
    for file in [
        "package.py",
        "helper.py",
        "sub/__init__.py",
        "sub/x.py",
        "sub/w.py",
        "sub/deep/y.py",
        "sibling.py",
    ] {
        assert_eq!(runs(file), Runs::Always, "{file}");
    }
    assert_eq!(runs("lazy.py"), Runs::Later);
    assert_eq!(runs("train.py"), Runs::Never);
    assert!(found.undefined.is_empty());
}

#[test]
fn names_that_no_module_defines_are_found() {
    let found = sources(&[
        (
            "package.py",
            "from helper import there, gone\nfrom .sub import inner, lost\ntry:\n  from helper import perhaps\nexcept ImportError:\n  pass\n",
        ),
        ("helper.py", "def there(): pass\n"),
        ("sub/__init__.py", ""),
        ("sub/inner.py", ""),
    ]);
    let undefined: Vec<_> = found.undefined.into_iter().collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(undefined, [pair("helper", "gone"), pair("sub", "lost")]);
}

#[test]
fn modules_are_files_extensions_and_directories() {
    let names = [
        "a.py",
        "b/__init__.py",
        "b.py",
        "c/d.py",
        "e.cpython-39-x86_64-linux-gnu.so",
        "m/x.pkl",
    ];
    let found = modules(&names.map(str::to_owned));
    assert_eq!(found["b"], Own::File("b/__init__.py".to_owned()));
    assert_eq!(found["c"], Own::Directory);
    assert_eq!(found["c.d"], Own::File("c/d.py".to_owned()));
    assert_eq!(found["e"], Own::Compiled);
    assert!(!found.contains_key("m"));
}
