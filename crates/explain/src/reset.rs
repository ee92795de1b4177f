//! The rows that the reset methods put in place of the explained one: zeros, and means.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, PrimitiveArray, RecordBatch,
    cast::AsArray,
    types::{
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, Field, Schema};
use luthier_types::{Code, Error};

/// Calls `$f::<T>($args)` with the type of an integer or floating-point column; `None` for others.
macro_rules! by_number {
    ($data_type:expr, $integer:ident, $float:ident, ($($args:expr),*)) => {
        match $data_type {
            DataType::Int8 => Some($integer::<Int8Type>($($args),*)),
            DataType::Int16 => Some($integer::<Int16Type>($($args),*)),
            DataType::Int32 => Some($integer::<Int32Type>($($args),*)),
            DataType::Int64 => Some($integer::<Int64Type>($($args),*)),
            DataType::UInt8 => Some($integer::<UInt8Type>($($args),*)),
            DataType::UInt16 => Some($integer::<UInt16Type>($($args),*)),
            DataType::UInt32 => Some($integer::<UInt32Type>($($args),*)),
            DataType::UInt64 => Some($integer::<UInt64Type>($($args),*)),
            DataType::Float16 => Some($float::<Float16Type>($($args),*)),
            DataType::Float32 => Some($float::<Float32Type>($($args),*)),
            DataType::Float64 => Some($float::<Float64Type>($($args),*)),
            _ => None,
        }
    };
}

/// One row of zeros with the columns of `row`.
///
/// # Errors
/// [`Code::BadRequest`] naming the first column that is not numeric.
pub(crate) fn zero_row(row: &RecordBatch) -> Result<RecordBatch, Error> {
    build(row, "ZERO_RESET", |_, data_type| {
        by_number!(data_type, zero, zero, ())
    })
}

/// One row of the means of `reference`, which has the columns of `row`.
///
/// # Errors
/// [`Code::BadRequest`] naming the first column that is not numeric.
pub(crate) fn mean_row(row: &RecordBatch, reference: &RecordBatch) -> Result<RecordBatch, Error> {
    build(row, "MEAN_RESET", |j, data_type| {
        let values = reference.column(j).as_ref();
        by_number!(data_type, integer_mean, float_mean, (values))
    })
}

fn build(
    row: &RecordBatch,
    method: &str,
    value: impl Fn(usize, &DataType) -> Option<ArrayRef>,
) -> Result<RecordBatch, Error> {
    let fields = row.schema_ref().fields();
    let columns = fields.iter().enumerate().map(|(j, field)| {
        value(j, field.data_type()).ok_or_else(|| {
            Error::new(
                Code::BadRequest,
                format!(
                    "{method} needs numeric inputs, and the input `{}` is {}",
                    field.name(),
                    field.data_type()
                ),
            )
            .hint("Use FIDDLER_SHAP or PERMUTE, which treat inputs of any type.")
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<_> = fields
        .iter()
        .map(|f| Field::clone(f).with_nullable(true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|e| Error::internal("making the row that an explanation resets to", e))
}

fn one<T: ArrowPrimitiveType>(value: Option<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter([value]))
}

fn zero<T: ArrowPrimitiveType>() -> ArrayRef {
    one::<T>(Some(T::Native::ZERO))
}

fn integer_mean<T>(values: &dyn Array) -> ArrayRef
where
    T: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128>>,
{
    let (mut sum, mut count) = (0_i128, 0_i128);
    for value in values.as_primitive::<T>().iter().flatten() {
        sum += value.into();
        count += 1;
    }
    // The nearest integer, halves going up; it lies between the extremes and so fits the type.
    let mean = (count > 0).then(|| (2 * sum + count).div_euclid(2 * count));
    one::<T>(mean.and_then(|mean| mean.try_into().ok()))
}

fn float_mean<T: Real>(values: &dyn Array) -> ArrayRef {
    let values = values.as_primitive::<T>();
    let (mut mean, mut count) = (0.0, 0.0);
    for value in values
        .iter()
        .flatten()
        .map(T::widen)
        .filter(|value| !value.is_nan())
    {
        count += 1.0;
        mean += value / count - mean / count;
    }
    if count > 0.0 {
        return one::<T>(Some(T::narrow(mean)));
    }
    // Nothing to take the mean of: missing, as the reference writes it.
    one::<T>(values.iter().next().flatten())
}

/// The floating-point types.
trait Real: ArrowPrimitiveType {
    fn widen(value: Self::Native) -> f64;
    fn narrow(value: f64) -> Self::Native;
}

impl Real for Float64Type {
    fn widen(value: f64) -> f64 {
        value
    }

    fn narrow(value: f64) -> f64 {
        value
    }
}

impl Real for Float32Type {
    fn widen(value: f32) -> f64 {
        value.into()
    }

    fn narrow(value: f64) -> f32 {
        value as f32
    }
}

impl Real for Float16Type {
    fn widen(value: Self::Native) -> f64 {
        value.to_f64()
    }

    fn narrow(value: f64) -> Self::Native {
        Self::Native::from_f64(value)
    }
}
