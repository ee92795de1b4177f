//! Tests of telling the model's class and texts that name files.

use super::*;

fn class(text: &str) -> Option<ModelClass> {
    Source::parse(text.as_bytes()).unwrap().model_class()
}

#[test]
fn a_plain_class_is_told() {
    let text = "import x\nclass M:\n  'doc'\n  a = 1\n  def __init__(self): pass\n  @cache\n  def score(self): pass\n\ndef get_model():\n  return M()\n";
    let found = class(text).unwrap();
    assert_eq!((found.name.as_str(), found.line), ("M", 2));
    assert_eq!(found.members, ["a", "__init__", "score"]);
}

#[test]
fn a_class_that_may_have_more_is_not_told() {
    for text in [
        "class M(Base):\n  def f(self): pass\ndef get_model():\n  return M()\n",
        "class M:\n  def f(self): pass\nsetattr(M, 'predict', 1)\ndef get_model():\n  return M()\n",
        "class M:\n  def f(self): pass\nM.predict = 1\ndef get_model():\n  return M()\n",
        "class M:\n  def __getattr__(self, name): pass\ndef get_model():\n  return M()\n",
        "class M:\n  def f(self): pass\ndef get_model():\n  if x:\n    return M()\n  return 1\n",
        "class M:\n  def f(self): pass\ndef get_model():\n  return N()\n",
        "@more\nclass M:\n  def f(self): pass\ndef get_model():\n  return M()\n",
        "class M:\n  def f(self): pass\nfrom x import M\ndef get_model():\n  return M()\n",
        "class M:\n  for x in y: pass\ndef get_model():\n  return M()\n",
        "class M:\n  def f(self): pass\ndef get_model():\n  return M().f()\n",
        "",
    ] {
        assert_eq!(class(text), None, "{text}");
    }
}

#[test]
fn texts_that_name_files_are_told() {
    let texts = |text: &str| Source::parse(text.as_bytes()).unwrap().texts();
    let found = texts(
        "'model.pkl'\nopen('model.pkl')\nx = f'{P}/a.pkl'\nP / \"sub/b.h5\"\ny = '/abs/c.pkl'\nif __name__ == '__main__':\n  z = 'd.pkl'\n",
    );
    assert_eq!(
        found.files,
        [("model.pkl".to_owned(), 2), ("sub/b.h5".to_owned(), 4)]
    );
    assert!(
        texts("if p.exists('a.pkl'): open('a.pkl')\n")
            .files
            .is_empty()
    );
    let found = texts(
        "open('{PACKAGE_PATH}/m.pkl')\na = '{MODEL_DIR}'\nb = '{PATH}'.format(PATH=1)\nc = f'{PATH}'\nd = '{path}'\ne = '{PATH}' % 1\n",
    );
    assert_eq!(
        found.plain,
        [
            ("{PACKAGE_PATH}/m.pkl".to_owned(), 1),
            ("{MODEL_DIR}".to_owned(), 2)
        ]
    );
}
