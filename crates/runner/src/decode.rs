//! A request's Arrow IPC stream, as the buffers that frames are made of.
//!
//! The model's inputs are picked by name, in order; other columns are ignored. What a column
//! becomes follows its declared type and whether it has nulls, as pandas itself would have it:
//!
//! | declared | without nulls | with nulls |
//! | --- | --- | --- |
//! | float | float64 | float64, NaN |
//! | int | int64 | float64, NaN |
//! | bool | bool | object, None |
//! | str, category | object | object, None |
//! | timestamp | datetime64[ns], UTC without a zone | NaT |
//! | vector | object of lists of float | object, None |

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray as _,
    types::{
        Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, DataType as Arrow, TimeUnit};
use luthier_types::{
    DataType,
    runner::{InputColumn, RunnerConfig, RunnerError, RunnerErrorKind},
};

use crate::{failure, words::Words};

/// Largest integer up to which float64 holds every one.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// pandas' missing point in time.
const NAT: i64 = i64::MIN;

/// The kind of a column, one letter of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Int,
    Bool,
    Time,
    Object,
    Vector,
}

/// A batch of rows. Each buffer holds, column after column, the columns of one kind.
#[derive(Default)]
pub(crate) struct Table {
    /// One letter per input; see `luthier_frames.py`.
    pub(crate) key: String,
    pub(crate) rows: usize,
    pub(crate) floats: Vec<u8>,
    pub(crate) ints: Vec<u8>,
    pub(crate) bools: Vec<u8>,
    pub(crate) times: Vec<u8>,
    pub(crate) objects: Vec<Vec<ArrayRef>>,
    /// What `objects` hold, where that is text and much of it.
    pub(crate) words: Option<Words>,
}

// === impl Kind ===

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::Float => 'F',
            Self::Int => 'I',
            Self::Bool => 'B',
            Self::Time => 'T',
            Self::Object => 'O',
            Self::Vector => 'V',
        }
    }

    const fn without_nulls(data_type: DataType) -> Self {
        match data_type {
            DataType::Float => Self::Float,
            DataType::Int => Self::Int,
            DataType::Bool => Self::Bool,
            DataType::Str | DataType::Category => Self::Object,
            DataType::Timestamp => Self::Time,
            DataType::Vector => Self::Vector,
        }
    }
}

/// The key of a batch in which nothing is missing.
pub(crate) fn full_key(inputs: &[InputColumn]) -> String {
    inputs
        .iter()
        .map(|c| Kind::without_nulls(c.data_type).letter())
        .collect()
}

/// Reads the stream `body`.
pub(crate) fn table(body: Vec<u8>, config: &RunnerConfig) -> Result<Table, RunnerError> {
    let broken = |e: ArrowError| bad(format!("the body is not an Arrow IPC stream: {e}"));
    // The columns lie in the body, where they are aligned: nothing is copied.
    let mut body = Buffer::from_vec(body);
    let mut decoder = StreamDecoder::new();
    let mut batches: Vec<RecordBatch> = vec![];
    while let Some(batch) = decoder.decode(&mut body).map_err(broken)? {
        batches.push(batch);
    }
    decoder.finish().map_err(broken)?;
    let schema = decoder
        .schema()
        .ok_or_else(|| bad("the body is not an Arrow IPC stream: it has no schema".to_owned()))?;
    let mut places = Vec::with_capacity(config.inputs.len());
    for (at, input) in config.inputs.iter().enumerate() {
        // A client that sends the inputs in order is the usual one.
        let named = |at: usize| {
            schema
                .fields()
                .get(at)
                .is_some_and(|f| *f.name() == input.name)
        };
        let place = if named(at) {
            Some(at)
        } else {
            (0..schema.fields().len()).find(|i| named(*i))
        };
        places.push(place.ok_or_else(|| {
            bad(format!(
                "the input `{}` is not among the columns",
                input.name
            ))
        })?);
    }
    let mut table = Table {
        rows: batches.iter().map(RecordBatch::num_rows).sum(),
        ..Table::default()
    };
    for (input, place) in config.inputs.iter().zip(places) {
        let chunks: Vec<&ArrayRef> = batches.iter().map(|b| b.column(place)).collect();
        let kind = table.push(input.data_type, &chunks).map_err(|why| {
            let found = schema.field(place).data_type();
            bad(format!(
                "the input `{}` is declared as {:?}, but {found} {why}",
                input.name, input.data_type
            ))
        })?;
        table.key.push(kind.letter());
    }
    table.words = Words::of(&table.objects, table.rows);
    Ok(table)
}

fn bad(message: String) -> RunnerError {
    failure(RunnerErrorKind::BadRequest, message)
}

const UNFIT: &str = "does not fit";

// === impl Table ===

impl Table {
    fn push(&mut self, declared: DataType, chunks: &[&ArrayRef]) -> Result<Kind, &'static str> {
        let nulls = chunks.iter().any(|c| c.logical_null_count() > 0);
        let chunks = || chunks.iter().map(|c| &***c);
        match declared {
            DataType::Float => {
                chunks().try_for_each(|c| floats(c, &mut self.floats))?;
                Ok(Kind::Float)
            }
            DataType::Int if nulls => {
                chunks().try_for_each(|c| floats(c, &mut self.floats))?;
                Ok(Kind::Float)
            }
            DataType::Int => {
                let before = self.ints.len();
                for chunk in chunks() {
                    if !ints(chunk, &mut self.ints)? {
                        // Fractions in a column of integers stay what they are.
                        self.ints.truncate(before);
                        chunks().try_for_each(|c| floats(c, &mut self.floats))?;
                        return Ok(Kind::Float);
                    }
                }
                Ok(Kind::Int)
            }
            DataType::Bool if nulls => {
                if !chunks().all(|c| matches!(c.data_type(), Arrow::Boolean | Arrow::Null)) {
                    return Err(UNFIT);
                }
                self.objects
                    .push(chunks().map(|c| c.slice(0, c.len())).collect());
                Ok(Kind::Object)
            }
            DataType::Bool => {
                chunks().try_for_each(|c| bools(c, &mut self.bools))?;
                Ok(Kind::Bool)
            }
            DataType::Str | DataType::Category => {
                if !chunks().all(|c| is_text(c.data_type())) {
                    return Err(UNFIT);
                }
                self.objects
                    .push(chunks().map(|c| c.slice(0, c.len())).collect());
                Ok(Kind::Object)
            }
            DataType::Timestamp => {
                chunks().try_for_each(|c| times(c, &mut self.times))?;
                Ok(Kind::Time)
            }
            DataType::Vector => {
                if !chunks().all(|c| is_vector(c.data_type())) {
                    return Err(UNFIT);
                }
                self.objects
                    .push(chunks().map(|c| c.slice(0, c.len())).collect());
                Ok(Kind::Vector)
            }
        }
    }
}

pub(crate) fn is_text(found: &Arrow) -> bool {
    match found {
        Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View | Arrow::Null => true,
        Arrow::Dictionary(_, values) => matches!(**values, Arrow::Utf8 | Arrow::LargeUtf8),
        _ => false,
    }
}

fn is_vector(found: &Arrow) -> bool {
    match found {
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
            item.data_type().is_numeric() || item.data_type().is_null()
        }
        found => found.is_null(),
    }
}

/// The numbers of `array` as float64, missing ones as NaN, without regard to exactness.
pub(crate) fn floats(array: &dyn Array, out: &mut Vec<u8>) -> Result<(), &'static str> {
    fn all<T: arrow_array::ArrowPrimitiveType>(
        array: &dyn Array,
        out: &mut Vec<u8>,
        float: impl Fn(T::Native) -> f64,
    ) {
        let array = array.as_primitive::<T>();
        out.reserve(array.len() * 8);
        if array.null_count() == 0 {
            out.extend(array.values().iter().flat_map(|v| float(*v).to_le_bytes()));
        } else {
            out.extend(
                array
                    .iter()
                    .flat_map(|v| v.map_or(f64::NAN, &float).to_le_bytes()),
            );
        }
    }
    match array.data_type() {
        Arrow::Float64 if array.null_count() == 0 => {
            let values = array.as_primitive::<Float64Type>().values();
            out.extend_from_slice(values.inner().as_slice());
        }
        Arrow::Float64 => all::<Float64Type>(array, out, |v| v),
        Arrow::Float32 => all::<Float32Type>(array, out, f64::from),
        Arrow::Int8 => all::<Int8Type>(array, out, f64::from),
        Arrow::Int16 => all::<Int16Type>(array, out, f64::from),
        Arrow::Int32 => all::<Int32Type>(array, out, f64::from),
        Arrow::Int64 => all::<Int64Type>(array, out, |v| v as f64),
        Arrow::UInt8 => all::<UInt8Type>(array, out, f64::from),
        Arrow::UInt16 => all::<UInt16Type>(array, out, f64::from),
        Arrow::UInt32 => all::<UInt32Type>(array, out, f64::from),
        Arrow::UInt64 => all::<UInt64Type>(array, out, |v| v as f64),
        Arrow::Boolean => {
            for value in array.as_boolean() {
                let value = value.map_or(f64::NAN, |v| f64::from(u8::from(v)));
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Arrow::Null => {
            for _ in 0..array.len() {
                out.extend_from_slice(&f64::NAN.to_le_bytes());
            }
        }
        _ => return Err(UNFIT),
    }
    Ok(())
}

/// The integers of an array without nulls; false when it holds other numbers.
fn ints(array: &dyn Array, out: &mut Vec<u8>) -> Result<bool, &'static str> {
    fn all<T: arrow_array::ArrowPrimitiveType>(array: &dyn Array, out: &mut Vec<u8>)
    where
        T::Native: Into<i64>,
    {
        let values = array.as_primitive::<T>().values();
        out.extend(
            values
                .iter()
                .flat_map(|v| Into::<i64>::into(*v).to_le_bytes()),
        );
    }
    fn whole(values: impl Iterator<Item = f64>, out: &mut Vec<u8>) -> bool {
        for value in values {
            if value.trunc() != value || value.abs() > EXACT {
                return false;
            }
            out.extend_from_slice(&(value as i64).to_le_bytes());
        }
        true
    }
    match array.data_type() {
        Arrow::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            out.extend_from_slice(values.inner().as_slice());
        }
        Arrow::Int8 => all::<Int8Type>(array, out),
        Arrow::Int16 => all::<Int16Type>(array, out),
        Arrow::Int32 => all::<Int32Type>(array, out),
        Arrow::UInt8 => all::<UInt8Type>(array, out),
        Arrow::UInt16 => all::<UInt16Type>(array, out),
        Arrow::UInt32 => all::<UInt32Type>(array, out),
        Arrow::UInt64 => {
            for value in array.as_primitive::<UInt64Type>().values() {
                let value = i64::try_from(*value).map_err(|_| "holds a value above 2**63 - 1")?;
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Arrow::Boolean => {
            for value in array.as_boolean().values() {
                out.extend_from_slice(&i64::from(value).to_le_bytes());
            }
        }
        Arrow::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            return Ok(whole(values.iter().copied(), out));
        }
        Arrow::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            return Ok(whole(values.iter().copied().map(f64::from), out));
        }
        Arrow::Null => {}
        _ => return Err(UNFIT),
    }
    Ok(true)
}

/// The booleans of an array without nulls; 0 and 1 count as such.
fn bools(array: &dyn Array, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if matches!(array.data_type(), Arrow::Boolean) {
        out.extend(array.as_boolean().values().iter().map(u8::from));
        return Ok(());
    }
    let mut numbers = vec![];
    floats(array, &mut numbers)?;
    let (numbers, _) = numbers.as_chunks::<8>();
    for number in numbers {
        let number = f64::from_le_bytes(*number);
        if number != 0.0 && number != 1.0 {
            return Err("holds values other than 0 and 1");
        }
        out.push(u8::from(number == 1.0));
    }
    Ok(())
}

/// Points in time as nanoseconds since 1970 in UTC.
fn times(array: &dyn Array, out: &mut Vec<u8>) -> Result<(), &'static str> {
    fn all<T: arrow_array::ArrowPrimitiveType>(
        array: &dyn Array,
        out: &mut Vec<u8>,
        factor: i64,
    ) -> Result<(), &'static str>
    where
        T::Native: Into<i64>,
    {
        for value in array.as_primitive::<T>() {
            let value = match value {
                None => NAT,
                Some(value) => Into::<i64>::into(value)
                    .checked_mul(factor)
                    .ok_or("holds a time outside 1677 to 2262")?,
            };
            out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }
    const SECOND: i64 = 1_000_000_000;
    match array.data_type() {
        Arrow::Timestamp(TimeUnit::Nanosecond, _) => all::<TimestampNanosecondType>(array, out, 1),
        Arrow::Timestamp(TimeUnit::Microsecond, _) => {
            all::<TimestampMicrosecondType>(array, out, 1000)
        }
        Arrow::Timestamp(TimeUnit::Millisecond, _) => {
            all::<TimestampMillisecondType>(array, out, SECOND / 1000)
        }
        Arrow::Timestamp(TimeUnit::Second, _) => all::<TimestampSecondType>(array, out, SECOND),
        Arrow::Date32 => all::<Date32Type>(array, out, 86_400 * SECOND),
        Arrow::Date64 => all::<Date64Type>(array, out, SECOND / 1000),
        Arrow::Null => {
            for _ in 0..array.len() {
                out.extend_from_slice(&NAT.to_le_bytes());
            }
            Ok(())
        }
        _ => Err(UNFIT),
    }
}
