//! Calls of the model: the only place that takes the GIL.

use std::sync::{Mutex, PoisonError};

use arrow_array::{Array, ArrayRef, cast::AsArray as _};
use arrow_schema::DataType as Arrow;
use luthier_types::runner::{RunnerError, RunnerErrorKind};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBool, PyByteArray, PyBytes, PyFloat, PyList, PyString, PyTuple},
};

use crate::{
    decode::{self, Table},
    encode::Column,
    failure,
    words::Words,
};

/// The Python functions that call the loaded model.
pub(crate) struct Model {
    predict: Py<PyAny>,
    explain: Py<PyAny>,
    /// The last key as a Python string: requests of one client look alike.
    key: Mutex<Option<(String, Py<PyString>)>>,
}

/// A failure as `luthier_host.py` returns it.
type Failure = (
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

impl Model {
    pub(crate) fn new(predict: Py<PyAny>, explain: Py<PyAny>) -> Self {
        Self {
            predict,
            explain,
            key: Mutex::default(),
        }
    }

    /// Seconds spent in the model, and the outputs in order. The GIL may have been long in coming,
    /// so whether the call is still `wanted` is asked when it is there.
    pub(crate) fn predict(
        &self,
        table: &Table,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(f64, Vec<Column>), RunnerError> {
        Python::attach(|py| {
            in_time(wanted)?;
            let key = self.key(py, &table.key);
            let call = || -> PyResult<Bound<'_, PyAny>> {
                self.predict
                    .bind(py)
                    .call1((key, table.rows, buffers(py, table)?))
            };
            let answer = call().map_err(|e| internal(py, &e))?;
            if let Ok((seconds, list)) = answer.extract::<(f64, Bound<'_, PyList>)>() {
                let columns: PyResult<Vec<Column>> = list.iter().map(|c| column(&c)).collect();
                let columns = columns.map_err(|e| {
                    failure(
                        RunnerErrorKind::WrongValues,
                        format!("the result: {}", e.value(py)),
                    )
                })?;
                return Ok((seconds, columns));
            }
            Err(failed(py, &answer))
        })
    }

    /// The JSON of the package's own explanation called `name`, if it is still `wanted`.
    pub(crate) fn explain(
        &self,
        name: &str,
        table: &Table,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, RunnerError> {
        Python::attach(|py| {
            in_time(wanted)?;
            let key = self.key(py, &table.key);
            let call = || -> PyResult<Bound<'_, PyAny>> {
                self.explain
                    .bind(py)
                    .call1((name, key, table.rows, buffers(py, table)?))
            };
            let answer = call().map_err(|e| internal(py, &e))?;
            match answer.cast::<PyString>() {
                Ok(json) => json
                    .to_cow()
                    .map(|json| json.into_owned().into_bytes())
                    .map_err(|e| internal(py, &e)),
                Err(_) => Err(failed(py, &answer)),
            }
        })
    }

    fn key<'py>(&self, py: Python<'py>, key: &str) -> Bound<'py, PyString> {
        let mut last = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((text, object)) = &*last
            && text == key
        {
            return object.bind(py).clone();
        }
        let object = PyString::new(py, key);
        *last = Some((key.to_owned(), object.clone().unbind()));
        object
    }
}

fn in_time(wanted: &dyn Fn() -> bool) -> Result<(), RunnerError> {
    if wanted() {
        return Ok(());
    }
    Err(failure(
        RunnerErrorKind::TooLate,
        "the request's time was over before the model was free",
    ))
}

/// The kind that is written `name` in JSON.
pub(crate) fn kind(name: &str) -> RunnerErrorKind {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .unwrap_or(RunnerErrorKind::Internal)
}

fn failed(py: Python<'_>, answer: &Bound<'_, PyAny>) -> RunnerError {
    match answer.extract::<Failure>() {
        Ok((name, message, exception, traceback, module)) => RunnerError {
            kind: kind(&name),
            message,
            exception,
            traceback,
            module,
        },
        Err(error) => internal(py, &error),
    }
}

fn internal(py: Python<'_>, error: &PyErr) -> RunnerError {
    let name = error
        .get_type(py)
        .name()
        .map(|n| n.to_string())
        .unwrap_or_default();
    let mut failed = failure(
        RunnerErrorKind::Internal,
        format!("the runner failed: {}", error.value(py)),
    );
    failed.exception = Some(name);
    failed
}

/// The buffers in the order of `luthier_frames.BLOCKS`.
fn buffers<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyTuple>> {
    // Writable, and of the frame alone: a package may change its input in place.
    let bytes = |bytes: &[u8]| PyByteArray::new(py, bytes);
    PyTuple::new(
        py,
        [
            bytes(&table.floats).into_any(),
            bytes(&table.ints).into_any(),
            bytes(&table.bools).into_any(),
            bytes(&table.times).into_any(),
            match &table.words {
                Some(words) => places(py, words)?.into_any(),
                None => objects(py, table)?.into_any(),
            },
        ],
    )
}

/// The different words, that for no value first, and which of them each cell is.
fn places<'py>(py: Python<'py>, words: &Words) -> PyResult<Bound<'py, PyTuple>> {
    let texts = words.iter().map(|word| PyString::new(py, word).into_any());
    let list: Vec<_> = std::iter::once(py.None().into_bound(py))
        .chain(texts)
        .collect();
    let places = PyBytes::new(py, &words.places);
    PyTuple::new(py, [PyList::new(py, list)?.into_any(), places.into_any()])
}

fn objects<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyList>> {
    let mut out = Vec::with_capacity(table.objects.len() * table.rows);
    for chunk in table.objects.iter().flatten() {
        extend(py, &mut out, chunk)?;
    }
    PyList::new(py, out)
}

/// Appends the values of `array` as Python objects.
fn extend<'py>(
    py: Python<'py>,
    out: &mut Vec<Bound<'py, PyAny>>,
    array: &ArrayRef,
) -> PyResult<()> {
    let none = || py.None().into_bound(py);
    let text = |value: Option<&str>| value.map_or_else(none, |v| PyString::new(py, v).into_any());
    match array.data_type() {
        Arrow::Utf8 => out.extend(array.as_string::<i32>().iter().map(text)),
        Arrow::LargeUtf8 => out.extend(array.as_string::<i64>().iter().map(text)),
        Arrow::Utf8View => out.extend(array.as_string_view().iter().map(text)),
        Arrow::Boolean => out.extend(
            array
                .as_boolean()
                .iter()
                .map(|v| v.map_or_else(none, |v| PyBool::new(py, v).to_owned().into_any())),
        ),
        Arrow::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            // Each word becomes one Python string, however often it stands in the column.
            let mut words = vec![];
            extend(py, &mut words, dictionary.values())?;
            let keys = dictionary.keys();
            let places = if words.is_empty() {
                vec![0; array.len()]
            } else {
                dictionary.normalized_keys()
            };
            for (at, place) in places.into_iter().enumerate() {
                let word = if keys.is_null(at) {
                    None
                } else {
                    words.get(place)
                };
                out.push(word.map_or_else(none, Clone::clone));
            }
        }
        Arrow::List(_) | Arrow::LargeList(_) | Arrow::FixedSizeList(..) => {
            for at in 0..array.len() {
                let item = match array.data_type() {
                    _ if array.is_null(at) => None,
                    Arrow::List(_) => Some(array.as_list::<i32>().value(at)),
                    Arrow::LargeList(_) => Some(array.as_list::<i64>().value(at)),
                    _ => Some(array.as_fixed_size_list().value(at)),
                };
                out.push(match item {
                    None => none(),
                    Some(item) => vector(py, &item)?,
                });
            }
        }
        _ => out.extend((0..array.len()).map(|_| none())),
    }
    Ok(())
}

fn vector<'py>(py: Python<'py>, item: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    let mut bytes = vec![];
    decode::floats(item, &mut bytes).map_err(PyValueError::new_err)?;
    let (words, _) = bytes.as_chunks::<8>();
    let floats = words
        .iter()
        .map(|word| PyFloat::new(py, f64::from_le_bytes(*word)));
    Ok(PyList::new(py, floats)?.into_any())
}

/// A column as `luthier_results.py` returns it.
fn column(parts: &Bound<'_, PyAny>) -> PyResult<Column> {
    let parts = parts.cast::<PyTuple>()?;
    let (kind, values, valid) = (parts.get_item(0)?, parts.get_item(1)?, parts.get_item(2)?);
    let bytes = || -> PyResult<Vec<u8>> { Ok(values.cast::<PyBytes>()?.as_bytes().to_vec()) };
    let valid = if valid.is_none() {
        None
    } else {
        Some(valid.cast::<PyBytes>()?.as_bytes().to_vec())
    };
    Ok(match &*kind.cast::<PyString>()?.to_cow()? {
        "f" => Column::Floats {
            bytes: bytes()?,
            valid,
        },
        "i" => Column::Ints {
            bytes: bytes()?,
            valid,
        },
        "b" => Column::Bools {
            bytes: bytes()?,
            valid,
        },
        _ => {
            let list = values.cast::<PyList>()?;
            let texts: PyResult<Vec<Option<String>>> = list
                .iter()
                .map(|v| {
                    if v.is_none() {
                        return Ok(None);
                    }
                    Ok(Some(v.cast::<PyString>()?.to_cow()?.into_owned()))
                })
                .collect();
            Column::Texts(texts?)
        }
    })
}
