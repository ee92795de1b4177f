//! The model that `get_model` returns, when it can be told for sure, and texts that name files.

use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use super::{Source, walk};

/// Endings of files that models are loaded from.
const ENDINGS: &[&str] = &[
    ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".cbm", ".ubj", ".pt", ".pth", ".onnx",
    ".skops", ".npz",
];
/// Most texts of one file that are told.
const MOST: usize = 200;

/// The class of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelClass {
    /// Its name.
    pub name: String,
    /// The line of its definition, from 1.
    pub line: u32,
    /// Everything that it defines; nothing else adds to it.
    pub members: Vec<String>,
}

/// Texts in a source file that name files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// Names of model files, with the line from 1.
    pub files: Vec<(String, u32)>,
    /// Texts such as `{PACKAGE_PATH}/model.pkl` that lack the `f` before the quotation mark.
    pub plain: Vec<(String, u32)>,
}

impl Source<'_> {
    /// The class whose instance `get_model` returns: one that inherits nothing and is not decorated,
    /// made in the one `return` of the one `get_model`. `None` when it is not as plain as that.
    pub(crate) fn model_class(&self) -> Option<ModelClass> {
        // Methods could be added from outside.
        let text = String::from_utf8_lossy(self.text);
        if text.contains("setattr(") || text.contains(".predict =") {
            return None;
        }
        let function = self.only("function_definition", "get_model")?;
        let mut returned = vec![];
        walk(function.child_by_field_name("body")?.walk(), |node| {
            if node.kind() == "return_statement" {
                returned.push(node);
            }
            !matches!(
                node.kind(),
                "function_definition" | "class_definition" | "lambda"
            )
        });
        let [returned] = returned[..] else {
            return None;
        };
        let call = returned.named_child(0).filter(|n| n.kind() == "call")?;
        let name = self.of(call.child_by_field_name("function")?);
        let class = self.only("class_definition", &name)?;
        if let Some(bases) = class.child_by_field_name("superclasses")
            && !matches!(self.of(bases).as_str(), "()" | "(object)")
        {
            return None;
        }
        let mut members = vec![];
        let body = class.child_by_field_name("body")?;
        let mut cursor = body.walk();
        for part in body.named_children(&mut cursor) {
            match part.kind() {
                "function_definition" | "class_definition" => members.push(self.name(part)?),
                "decorated_definition" => {
                    members.push(self.name(part.child_by_field_name("definition")?)?);
                }
                "expression_statement" => {
                    let inner = part.named_child(0)?;
                    match inner.kind() {
                        "string" => {}
                        "assignment" => members.push(self.of(inner.child_by_field_name("left")?)),
                        _ => return None,
                    }
                }
                "comment" | "pass_statement" => {}
                _ => return None,
            }
        }
        let made = ["__getattr__", "__getattribute__", "__new__"];
        if members
            .iter()
            .any(|m| made.contains(&m.as_str()) || m.contains(','))
        {
            return None;
        }
        let line = line_of(class);
        Some(ModelClass {
            name,
            line,
            members,
        })
    }

    /// The one statement of a kind and name at the top, undecorated, if the name is given only once.
    fn only(&self, kind: &str, name: &str) -> Option<Node<'_>> {
        let mut given = 0;
        let mut found = None;
        let root = self.tree.root_node();
        let mut cursor = root.walk();
        for node in root.named_children(&mut cursor) {
            if node.kind() == kind && self.name(node).as_deref() == Some(name) {
                found = Some(node);
            }
        }
        walk(self.tree.walk(), |node| {
            let is_definition = matches!(node.kind(), "function_definition" | "class_definition");
            let is_given = match node.kind() {
                _ if is_definition => self.name(node).as_deref() == Some(name),
                "assignment" => node
                    .child_by_field_name("left")
                    .is_some_and(|left| self.of(left) == name),
                "aliased_import" | "dotted_name" => self.of(node).ends_with(name),
                "wildcard_import" => true,
                _ => false,
            };
            given += usize::from(is_given);
            true
        });
        found.filter(|_| given == 1)
    }

    fn name(&self, definition: Node<'_>) -> Option<String> {
        definition.child_by_field_name("name").map(|n| self.of(n))
    }

    /// Texts that name files, outside of what runs only as a program.
    pub(crate) fn texts(&self) -> Texts {
        let mut found = Texts::default();
        // What looks first whether a file is there can do without.
        let text = String::from_utf8_lossy(self.text);
        let looks = ["exists(", "is_file(", "FileNotFoundError", "makedirs("]
            .iter()
            .any(|word| text.contains(word));
        self.walk(|node| {
            match node.kind() {
                "if_statement" => {
                    let condition = node.child_by_field_name("condition").map(|c| self.of(c));
                    return !condition.is_some_and(|c| c.contains("__name__"));
                }
                "string" => self.text(node, looks, &mut found),
                _ => {}
            }
            found.files.len() + found.plain.len() < MOST
        });
        found
    }

    fn text(&self, node: Node<'_>, looks: bool, found: &mut Texts) {
        let whole = self.of(node);
        let Some(start) = whole.find(['"', '\'']) else {
            return;
        };
        let (prefix, quoted) = whole.split_at(start);
        let inner = quoted.trim_matches(['"', '\'']);
        if inner.len() > 200 || inner.contains('\n') || prefix.contains(['f', 'F', 't', 'T']) {
            return;
        }
        let parent = node.parent().map(|p| p.kind());
        if parent == Some("expression_statement") {
            return;
        }
        if names_a_path(inner) {
            // `.format(...)` and `%` fill it in after all.
            if matches!(
                parent,
                Some("assignment" | "argument_list" | "return_statement")
            ) {
                found.plain.push((inner.to_owned(), line_of(node)));
            }
            return;
        }
        let is_name = ENDINGS
            .iter()
            .any(|end| inner.len() > end.len() && inner.ends_with(end))
            && !inner.starts_with(['/', '.', '~'])
            && !inner.contains("tmp")
            && inner
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        if is_name && !looks {
            found.files.push((inner.to_owned(), line_of(node)));
        }
    }
}

/// Whether the text has a place for a constant that holds a path, such as `{PACKAGE_PATH}`.
fn names_a_path(text: &str) -> bool {
    text.split('{').skip(1).any(|rest| {
        let name = rest.split('}').next().unwrap_or_default();
        let constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        rest.contains('}') && constant && (name.contains("PATH") || name.contains("DIR"))
    })
}

fn line_of(node: Node<'_>) -> u32 {
    u32::try_from(node.start_position().row + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
