//! The model's class, its hooks, and the files that the code names.

use crate::{Finding, Inspection, Level, Runs};

/// The methods that integrated gradients need, all of them.
const GRADIENTS: &[&str] = &[
    "compute_gradients",
    "get_ig_baseline",
    "project_attributions",
    "transform_to_attributable_input",
];

pub(super) fn check(inspection: &Inspection, found: &mut Vec<Finding>) {
    methods(inspection, found);
    for (file, source) in &inspection.sources.files {
        if source.runs > Runs::Later {
            continue;
        }
        for (text, line) in &source.texts.plain {
            let said = format!("has the plain text '{text}', in which nothing is filled in");
            found.push(
                Finding::new(Level::Warning, "not-a-format", said)
                    .at(file, Some(*line))
                    .hint(format!(
                        "Write f'{text}', with an f before the quotation mark"
                    )),
            );
        }
        for (name, line) in &source.texts.files {
            let base = name.rsplit('/').next().unwrap_or(name);
            let there = |f: &String| f.rsplit('/').next() == Some(base);
            if !inspection.files.iter().any(there) {
                let said = format!("names {name}, which is not in the package");
                found.push(
                    Finding::new(Level::Warning, "missing-file", said)
                        .at(file, Some(*line))
                        .hint(format!("Put {base} into the package directory")),
                );
            }
        }
    }
}

fn methods(inspection: &Inspection, found: &mut Vec<Finding>) {
    let Some(class) = &inspection.model else {
        return;
    };
    let has = |name: &str| class.members.iter().any(|m| m == name);
    let at = |finding: Finding| finding.at("package.py", Some(class.line));
    if !has("predict") {
        let text = format!(
            "defines {}, which get_model returns, without predict",
            class.name
        );
        found.push(at(Finding::new(Level::Error, "no-predict", text).hint(
            "Give it a method `def predict(self, input_df)` that returns a DataFrame with the model's outputs",
        )));
    }
    if has("explain_custom") {
        let text = format!("defines {} with explanations of its own", class.name);
        found.push(at(Finding::new(Level::Note, "explain-custom", text).hint(
            "Name them in xai_params.custom_explain_methods of the model",
        )));
    }
    let absent: Vec<&str> = GRADIENTS.iter().copied().filter(|m| !has(m)).collect();
    if absent.is_empty() {
        let text = format!(
            "defines {} with everything for integrated gradients",
            class.name
        );
        found
            .push(at(Finding::new(Level::Note, "integrated-gradients", text)
                .hint("Ask for the method IG")));
    } else if absent.len() < GRADIENTS.len() {
        let text = format!(
            "defines {} with some methods for integrated gradients and without {}, so that they stay off",
            class.name,
            absent.join(", ")
        );
        found.push(at(Finding::new(
            Level::Warning,
            "integrated-gradients",
            text,
        )
        .hint("Define the others too, or none")));
    }
}
