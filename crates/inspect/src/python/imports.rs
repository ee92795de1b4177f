//! The imports of a source file: where each is, and whether it is sure to run.
//!
//! Only statements are walked, and Python itself allows no more than a hundred levels of them.

use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use super::{Source, children};

/// Deepest nesting of statements that is followed; Python refuses more than a hundred.
const DEPTH: usize = 110;
/// Most imports of one file that are told.
const MOST: usize = 2000;

/// Whether an import runs, from sure to never.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// Whenever the file is imported, or when its `get_model` is called.
    #[default]
    Always,
    /// Under a condition that cannot be judged here.
    Perhaps,
    /// When a function is called.
    Later,
    /// Whenever the file is imported, and that it fails is provided for.
    Optional,
    /// Never where the model is served: for type checkers, or for the file run as a program.
    Never,
}

/// One import of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The module in full, for example `sklearn.linear_model`; without the leading dots of a
    /// relative import.
    pub module: String,
    /// Number of leading dots; 0 when it is absolute.
    pub dots: usize,
    /// What is imported from it; empty for `import module` and `from module import *`.
    pub names: Vec<String>,
    /// The line, from 1.
    pub line: u32,
    /// Whether it runs.
    pub runs: Runs,
    /// Modules in place of which it is imported when they are missing.
    pub instead_of: Vec<String>,
}

/// What surrounds a statement.
#[derive(Clone, Default)]
struct Around {
    runs: Runs,
    instead_of: Vec<String>,
    in_definition: bool,
    depth: usize,
}

impl Around {
    fn with(&self, runs: Runs) -> Self {
        Self {
            runs: self.runs.max(runs),
            depth: self.depth + 1,
            ..self.clone()
        }
    }
}

impl Source<'_> {
    /// Every import, in order.
    pub(crate) fn import_list(&self) -> Vec<Import> {
        let mut found = vec![];
        self.statements(self.tree.root_node(), &Around::default(), &mut found);
        found
    }

    fn statements(&self, block: Node<'_>, around: &Around, found: &mut Vec<Import>) {
        if around.depth > DEPTH {
            return;
        }
        let mut cursor = block.walk();
        for node in block.named_children(&mut cursor) {
            if found.len() >= MOST {
                return;
            }
            self.statement(node, around, found);
        }
    }

    fn statement(&self, node: Node<'_>, around: &Around, found: &mut Vec<Import>) {
        let body = |field: &str| node.child_by_field_name(field);
        match node.kind() {
            "import_statement" => {
                for name in children(node, "name") {
                    let name = match name.kind() {
                        "aliased_import" => name.child_by_field_name("name").unwrap_or(name),
                        _ => name,
                    };
                    self.add(self.dotted(name), 0, vec![], node, around, found);
                }
            }
            "import_from_statement" => self.import_from(node, around, found),
            "decorated_definition" => {
                if let Some(definition) = body("definition") {
                    self.statement(definition, around, found);
                }
            }
            "function_definition" => {
                let name = body("name").map(|n| self.of(n));
                let runs = match name.as_deref() {
                    // It is called once, before anything else.
                    Some("get_model") if !around.in_definition => Runs::Always,
                    _ => Runs::Later,
                };
                let mut inner = around.with(runs);
                inner.in_definition = true;
                if let Some(block) = body("body") {
                    self.statements(block, &inner, found);
                }
            }
            "class_definition" => {
                let mut inner = around.with(Runs::Always);
                inner.in_definition = true;
                if let Some(block) = body("body") {
                    self.statements(block, &inner, found);
                }
            }
            "if_statement" => self.branches(node, around, found),
            "try_statement" => self.attempt(node, around, found),
            "with_statement" => {
                let head = body("body").map_or(node.end_byte(), |b| b.start_byte());
                let head = self.between(node.start_byte(), head);
                let catches = head.contains("suppress(") && catches_import_error(&head);
                let runs = if catches {
                    Runs::Optional
                } else {
                    Runs::Always
                };
                if let Some(block) = body("body") {
                    self.statements(block, &around.with(runs), found);
                }
            }
            kind @ ("for_statement" | "while_statement" | "match_statement" | "case_clause"
            | "else_clause") => {
                let inner = around.with(Runs::Perhaps);
                let fields: &[&str] = match kind {
                    "case_clause" => &["consequence"],
                    "for_statement" | "while_statement" => &["body", "alternative"],
                    _ => &["body"],
                };
                for block in fields.iter().copied().filter_map(body) {
                    match block.kind() {
                        "else_clause" => self.statement(block, &inner, found),
                        _ => self.statements(block, &inner, found),
                    }
                }
            }
            "block" | "ERROR" => self.statements(node, &around.with(Runs::Always), found),
            _ => {}
        }
    }

    fn import_from(&self, node: Node<'_>, around: &Around, found: &mut Vec<Import>) {
        let Some(module) = node.child_by_field_name("module_name") else {
            return;
        };
        let names = children(node, "name")
            .into_iter()
            .map(|n| match n.kind() {
                "aliased_import" => n.child_by_field_name("name").unwrap_or(n),
                _ => n,
            })
            .map(|n| self.of(n))
            .collect();
        let text = self.dotted(module);
        let name = text.trim_start_matches('.');
        let dots = text.len() - name.len();
        self.add(name.to_owned(), dots, names, node, around, found);
    }

    /// `if`, `elif` and `else`, each with what its condition says.
    fn branches(&self, node: Node<'_>, around: &Around, found: &mut Vec<Import>) {
        let condition = |n: Node<'_>| {
            n.child_by_field_name("condition")
                .map(|c| self.of(c))
                .unwrap_or_default()
        };
        let first = condition(node);
        if let Some(block) = node.child_by_field_name("consequence") {
            self.statements(block, &around.with(when(&first)), found);
        }
        for other in children(node, "alternative") {
            let runs = match (other.kind(), when(&first)) {
                ("elif_clause", _) => when(&condition(other)),
                // The other side of a condition that never holds here.
                (_, Runs::Never) => Runs::Always,
                (_, runs) => runs,
            };
            for field in ["consequence", "body"] {
                if let Some(block) = other.child_by_field_name(field) {
                    self.statements(block, &around.with(runs), found);
                }
            }
        }
    }

    /// `try`: its body is optional when a handler catches failing imports; what the handler imports
    /// stands in for it.
    fn attempt(&self, node: Node<'_>, around: &Around, found: &mut Vec<Import>) {
        let mut cursor = node.walk();
        let parts: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let handlers = || {
            parts
                .iter()
                .filter(|p| p.kind().starts_with("except"))
                .copied()
        };
        let head = |handler: Node<'_>| {
            let mut cursor = handler.walk();
            let block = handler
                .named_children(&mut cursor)
                .find(|c| c.kind() == "block");
            let end = block.map_or(handler.end_byte(), |b| b.start_byte());
            self.between(handler.start_byte(), end)
        };
        let catching = handlers().any(|h| catches_import_error(&head(h)));
        let runs = if catching {
            Runs::Optional
        } else {
            Runs::Always
        };
        let start = found.len();
        for part in &parts {
            match part.kind() {
                "block" => self.statements(*part, &around.with(runs), found),
                "else_clause" => {
                    let runs = if catching {
                        Runs::Perhaps
                    } else {
                        Runs::Always
                    };
                    if let Some(block) = part.child_by_field_name("body") {
                        self.statements(block, &around.with(runs), found);
                    }
                }
                "finally_clause" => self.statements(*part, &around.with(Runs::Always), found),
                _ => {}
            }
        }
        let tried: Vec<String> = found[start..]
            .iter()
            .filter(|i| i.dots == 0)
            .map(|i| i.module.clone())
            .collect();
        for handler in handlers() {
            let catches = catches_import_error(&head(handler)) && !tried.is_empty();
            let mut inner = around.with(if catches { Runs::Always } else { Runs::Perhaps });
            if catches {
                inner.instead_of.extend(tried.iter().cloned());
            }
            self.statements(handler, &inner, found);
        }
    }

    fn add(
        &self,
        module: String,
        dots: usize,
        names: Vec<String>,
        node: Node<'_>,
        around: &Around,
        found: &mut Vec<Import>,
    ) {
        found.push(Import {
            module,
            dots,
            names,
            line: u32::try_from(node.start_position().row + 1).unwrap_or(u32::MAX),
            runs: around.runs,
            instead_of: around.instead_of.clone(),
        });
    }

    /// A dotted name without the white space that may stand within it.
    fn dotted(&self, node: Node<'_>) -> String {
        self.of(node).split_whitespace().collect()
    }

    fn between(&self, start: usize, end: usize) -> String {
        let bytes = self.text.get(start..end).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// What a condition says about running where the model is served.
fn when(condition: &str) -> Runs {
    let condition = condition.trim_matches(|c: char| c.is_whitespace() || "()".contains(c));
    let never = ["TYPE_CHECKING", "False", "0"].contains(&condition)
        || condition.ends_with(".TYPE_CHECKING")
        || (condition.contains("__name__") && condition.contains("__main__"));
    let of_platform = ["version_info", "platform", "os.name", "find_spec"]
        .iter()
        .any(|word| condition.contains(word));
    if never {
        Runs::Never
    } else if of_platform {
        Runs::Optional
    } else {
        Runs::Perhaps
    }
}

/// Whether the head of a handler (`except ImportError as e:`) or of a `with` catches an import that
/// fails.
fn catches_import_error(head: &str) -> bool {
    let bare = head.trim().trim_end_matches(':').trim() == "except";
    bare || [
        "ImportError",
        "ModuleNotFoundError",
        "Exception",
        "BaseException",
    ]
    .iter()
    .any(|name| {
        head.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|word| word == *name)
    })
}

#[cfg(test)]
mod tests;
