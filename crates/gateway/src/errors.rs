//! What the runner says went wrong, in the words of [`Error`].

use luthier_types::{
    Code, Error, Evidence,
    runner::{RunnerError, RunnerErrorKind},
};

use crate::call::out_of_time;

/// Most bytes of a message of a package that are kept.
const WORDS: usize = 4 * 1024;

/// Maps an error of the runner, exhaustively: its code, the cause in plain words, the traceback as
/// evidence and the next step.
pub fn runner_error(error: &RunnerError) -> Error {
    let error = &bounded(error);
    let (code, message, hint) = match error.kind {
        RunnerErrorKind::NoPackage => (
            Code::InvalidPackage,
            "the package has no `package.py`".to_owned(),
            "Put a file `package.py` with a function `get_model()` at the top of the package."
                .to_owned(),
        ),
        RunnerErrorKind::SyntaxError => (
            Code::InvalidPackage,
            format!("`package.py` does not parse: {}", error.message),
            "Correct the syntax; the image's Python may be older than the one it was written for."
                .to_owned(),
        ),
        RunnerErrorKind::MissingModule => match &error.module {
            Some(module) => (
                Code::InvalidPackage,
                format!("the package needs the module `{module}`, which is not installed"),
                format!("Add the distribution that provides `{module}` to requirements.txt."),
            ),
            None => (
                Code::InvalidPackage,
                "the package needs a module that is not installed".to_owned(),
                "Add the distribution that provides it to requirements.txt.".to_owned(),
            ),
        },
        RunnerErrorKind::ImportFailed => (
            Code::InvalidPackage,
            raised("importing `package.py`", error),
            "Correct `package.py`, or the versions in requirements.txt, and deploy again."
                .to_owned(),
        ),
        RunnerErrorKind::NoGetModel => (
            Code::InvalidPackage,
            "`package.py` has no function `get_model`".to_owned(),
            "Define `get_model()` in `package.py`; it returns an object with a method `predict`."
                .to_owned(),
        ),
        RunnerErrorKind::GetModelRaised => (
            Code::ModelServeError,
            raised("`get_model()`", error),
            "Correct `get_model()` and deploy again; a model saved by another version of a library \
             needs that version in requirements.txt."
                .to_owned(),
        ),
        RunnerErrorKind::NoPredict => (
            Code::InvalidPackage,
            "the object that `get_model()` returned has no method `predict`".to_owned(),
            "Give it a method `predict(df)` that takes and returns a pandas DataFrame.".to_owned(),
        ),
        RunnerErrorKind::PredictRaised => (
            Code::ModelServeError,
            raised("the model", error),
            "The traceback shows the line in the package; check that the rows are such as the \
             model expects."
                .to_owned(),
        ),
        RunnerErrorKind::NotADataFrame
        | RunnerErrorKind::WrongColumns
        | RunnerErrorKind::WrongRows
        | RunnerErrorKind::WrongValues => (
            Code::InvalidPrediction,
            error.message.clone(),
            "Let `predict` return a pandas DataFrame with exactly the outputs of the model's spec \
             and one row for each input row."
                .to_owned(),
        ),
        RunnerErrorKind::BadRequest => (
            Code::BadRequest,
            error.message.clone(),
            "Send rows with the inputs of the model's schema.".to_owned(),
        ),
        RunnerErrorKind::TooLarge => (
            Code::TooLarge,
            error.message.clone(),
            "Send fewer rows at a time.".to_owned(),
        ),
        RunnerErrorKind::NotReady => (
            Code::ModelUnavailable,
            format!("the model is not ready: {}", error.message),
            "Wait until the deployment is ready and try again.".to_owned(),
        ),
        RunnerErrorKind::TooLate => return out_of_time(),
        RunnerErrorKind::NoSuchHook => (
            Code::NotSupported,
            error.message.clone(),
            "Add the hook to the object that `get_model()` returns, or choose another method."
                .to_owned(),
        ),
        RunnerErrorKind::Internal => (
            Code::Internal,
            format!("the runner failed: {}", error.message),
            "Look at the replica's log for the cause; trying again may help.".to_owned(),
        ),
    };
    let evidence = error
        .traceback
        .as_deref()
        .map(Evidence::output)
        .unwrap_or_default();
    Error::new(code, message).hint(hint).evidence(evidence)
}

/// The error with nothing in it longer than a reader would follow: a package may raise whatever it
/// likes, and what it raises is stored and shown.
fn bounded(error: &RunnerError) -> RunnerError {
    let cut = |text: &str| {
        if text.len() <= WORDS {
            return text.to_owned();
        }
        let end = (0..=WORDS).rev().find(|at| text.is_char_boundary(*at));
        format!("{}…", &text[..end.unwrap_or(0)])
    };
    RunnerError {
        kind: error.kind,
        message: cut(&error.message),
        exception: error.exception.as_deref().map(cut),
        // Bounded where it becomes evidence, which keeps its end.
        traceback: error.traceback.clone(),
        module: error.module.as_deref().map(cut),
    }
}

/// "`what` raised ValueError: the message", without saying the exception's name twice.
fn raised(what: &str, error: &RunnerError) -> String {
    let message = error.message.trim();
    match error.exception.as_deref() {
        Some(exception) if message.is_empty() => format!("{what} raised {exception}"),
        Some(exception) if message.starts_with(exception) => format!("{what} raised {message}"),
        Some(exception) => format!("{what} raised {exception}: {message}"),
        None => format!("{what} failed: {message}"),
    }
}

#[cfg(test)]
mod tests;
