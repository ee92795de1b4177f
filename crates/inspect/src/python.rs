//! What can be told of Python source without running it.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tree_sitter::{Node, ParseOptions, Parser, Tree, TreeCursor};

mod imports;
mod model;

pub use imports::{Import, Runs};
pub use model::{ModelClass, Texts};

/// Longest source that is looked at; more is generated data, not a model's code.
pub(crate) const MAX_SOURCE: u64 = 1024 * 1024;
/// Longest that one file is parsed for. Past it nothing is said about the file.
const PARSE_TIME: Duration = Duration::from_secs(5);

/// Parsed source.
pub(crate) struct Source<'a> {
    text: &'a [u8],
    tree: Tree,
}

/// Where the source does not parse, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// The line itself.
    pub(crate) text: String,
}

/// Whether source parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// It does.
    Fine,
    /// It does not.
    Bad(SyntaxError),
    /// It may be newer than the grammar used here.
    Unknown,
}

/// Whether a name is defined at the top of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defined {
    /// It is.
    Yes,
    /// It is, as a coroutine function.
    Async,
    /// It is not.
    No,
    /// It may be: there is a star import or names are made by other means.
    Perhaps,
}

// === impl Source ===

impl<'a> Source<'a> {
    /// Parses `text`; none if that takes too long.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parser = Parser::new();
        parser
            .set_language(&tree_sitter_python::LANGUAGE.into())
            .ok()?;
        let end = Instant::now() + PARSE_TIME;
        let mut go_on = |_: &tree_sitter::ParseState| {
            if Instant::now() < end {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let tree = parser.parse_with_options(
            &mut |at, _| text.get(at..).unwrap_or_default(),
            None,
            Some(ParseOptions::new().progress_callback(&mut go_on)),
        )?;
        Some(Self { text, tree })
    }

    /// Whether the source parses.
    pub(crate) fn syntax(&self) -> Syntax {
        if !self.tree.root_node().has_error() {
            return Syntax::Fine;
        }
        let mut at = None;
        self.walk(|node| {
            if at.is_none() && (node.is_error() || node.is_missing()) {
                at = Some(node.start_position());
            }
            at.is_none() && node.has_error()
        });
        let Some(at) = at else { return Syntax::Unknown };
        let mut lines = self.text.split(|b| *b == b'\n');
        if lines.any(|line| is_beyond_grammar(&String::from_utf8_lossy(line))) {
            return Syntax::Unknown;
        }
        let line = self
            .text
            .split(|b| *b == b'\n')
            .nth(at.row)
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        Syntax::Bad(SyntaxError {
            line: at.row + 1,
            column: line.get(..at.column).unwrap_or_default().chars().count() + 1,
            text: line
                .chars()
                .take(200)
                .collect::<String>()
                .trim_end()
                .to_owned(),
        })
    }

    /// Whether the source parses without doubt.
    pub(crate) fn is_fine(&self) -> bool {
        !self.tree.root_node().has_error()
    }

    /// Whether the module defines `name` when it is imported, in whatever branch.
    pub(crate) fn defines(&self, name: &str) -> Defined {
        let mut best = Defined::No;
        self.walk(|node| {
            if best == Defined::Yes {
                return false;
            }
            let is = |node: Option<Node<'_>>| node.is_some_and(|n| self.of(n) == name);
            let (defined, deeper) = match node.kind() {
                "function_definition" => {
                    let own = node.child_by_field_name("name");
                    let is_async = node.child(0).is_some_and(|c| c.kind() == "async");
                    let defined = match is(own) {
                        true if is_async => Defined::Async,
                        true => Defined::Yes,
                        // A module's own way to answer for missing names (PEP 562).
                        false if own.is_some_and(|n| self.of(n) == "__getattr__") => {
                            Defined::Perhaps
                        }
                        false => Defined::No,
                    };
                    (defined, false)
                }
                "class_definition" => (yes(is(node.child_by_field_name("name"))), false),
                "lambda" => (Defined::No, false),
                "assignment" | "named_expression" => {
                    let left = node
                        .child_by_field_name("left")
                        .or_else(|| node.child_by_field_name("name"));
                    let mut found = false;
                    if let Some(left) = left {
                        walk(left.walk(), |n| {
                            found |= n.kind() == "identifier" && self.of(n) == name;
                            !matches!(n.kind(), "attribute" | "subscript")
                        });
                    }
                    (yes(found), true)
                }
                "import_statement" | "import_from_statement" => {
                    let imported = children(node, "name").into_iter().any(|n| match n.kind() {
                        "aliased_import" => is(n.child_by_field_name("alias")),
                        _ => self.of(n) == name,
                    });
                    let mut cursor = node.walk();
                    let star = node
                        .children(&mut cursor)
                        .any(|n| n.kind() == "wildcard_import");
                    (
                        if imported {
                            Defined::Yes
                        } else if star {
                            Defined::Perhaps
                        } else {
                            Defined::No
                        },
                        false,
                    )
                }
                "call" => {
                    let function = node.child_by_field_name("function").map(|n| self.of(n));
                    let makes_names = matches!(
                        function.as_deref(),
                        Some("globals" | "vars" | "locals" | "exec" | "setattr")
                    );
                    (
                        if makes_names {
                            Defined::Perhaps
                        } else {
                            Defined::No
                        },
                        true,
                    )
                }
                _ => (Defined::No, true),
            };
            best = match (best, defined) {
                (_, Defined::Yes) => Defined::Yes,
                (Defined::Async, _) | (_, Defined::Async) => Defined::Async,
                (Defined::No, other) => other,
                (kept, _) => kept,
            };
            deeper
        });
        best
    }

    fn of(&self, node: Node<'_>) -> String {
        String::from_utf8_lossy(self.text.get(node.byte_range()).unwrap_or_default()).into_owned()
    }

    fn walk(&self, visit: impl FnMut(Node<'_>) -> bool) {
        walk(self.tree.walk(), visit);
    }
}

/// Whether the line may hold what the grammar wrongly refuses: defaults of type parameters, and a
/// starred literal in a tuple without parentheses, as in `return 1, *[2]`. A file with such a line
/// is never refused; the interpreter will tell.
fn is_beyond_grammar(line: &str) -> bool {
    let starred = [", *[", ", *(", ", *{"].iter().any(|s| line.contains(s));
    starred || has_type_parameters(line)
}

/// Whether the line defines something with type parameters, as in `class Box[T = int]:`. Their
/// defaults came with Python 3.13 (PEP 696), and the grammar does not know them.
fn has_type_parameters(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("async ").unwrap_or(line).trim_start();
    let name = ["type ", "class ", "def "]
        .iter()
        .find_map(|word| line.strip_prefix(word));
    name.is_some_and(|rest| {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        end.is_some_and(|end| rest[end..].trim_start().starts_with('['))
    })
}

const fn yes(defined: bool) -> Defined {
    if defined { Defined::Yes } else { Defined::No }
}

fn children<'t>(node: Node<'t>, field: &str) -> Vec<Node<'t>> {
    let mut cursor = node.walk();
    node.children_by_field_name(field, &mut cursor).collect()
}

/// Visits the node of `cursor` and those below it, parents first; `visit` says whether to go below.
/// Without recursion, as source may nest without bound.
fn walk<'t>(mut cursor: TreeCursor<'t>, mut visit: impl FnMut(Node<'t>) -> bool) {
    loop {
        if visit(cursor.node()) && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
