//! The many Arrow types brought down to the few that matter here.

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, StringArray,
    TimestampMicrosecondArray, UInt64Array,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type},
};
use arrow_cast::cast;
use arrow_schema::{DataType as Arrow, TimeUnit};

use crate::schema::list_type;

/// A column of one of the few types.
pub(crate) enum Family {
    /// Floats.
    Float(Float64Array),
    /// Integers.
    Int(Int64Array),
    /// Integers that may be beyond `i64`.
    Unsigned(UInt64Array),
    /// Booleans.
    Bool(BooleanArray),
    /// Text.
    Text(StringArray),
    /// Times in microseconds since 1970, UTC.
    Time(TimestampMicrosecondArray),
    /// Lists of floats.
    Vector(ListArray),
    /// Nothing but missing values, this many.
    Nothing(usize),
}

/// The Arrow type that is handled for `data_type`; none if there is none.
fn target(data_type: &Arrow) -> Option<Arrow> {
    Some(match data_type {
        Arrow::Float16 | Arrow::Float32 | Arrow::Float64 => Arrow::Float64,
        Arrow::Decimal32(..) | Arrow::Decimal64(..) | Arrow::Decimal128(..) => Arrow::Float64,
        Arrow::Int8 | Arrow::Int16 | Arrow::Int32 | Arrow::Int64 => Arrow::Int64,
        Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32 => Arrow::Int64,
        Arrow::UInt64 => Arrow::UInt64,
        Arrow::Boolean => Arrow::Boolean,
        Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => Arrow::Utf8,
        Arrow::Timestamp(..) | Arrow::Date32 | Arrow::Date64 => {
            Arrow::Timestamp(TimeUnit::Microsecond, None)
        }
        Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _)
            if target(item.data_type()).is_some_and(|t| t.is_numeric()) =>
        {
            list_type()
        }
        Arrow::Dictionary(_, value) => target(value)?,
        Arrow::Null => Arrow::Null,
        _ => return None,
    })
}

// === impl Family ===

impl Family {
    /// Whether a column of this type is one of the few, or can be made one.
    pub(crate) fn takes(data_type: &Arrow) -> bool {
        target(data_type).is_some()
    }

    /// The column as one of the few types; none if it is none of them.
    pub(crate) fn of(array: &ArrayRef) -> Option<Self> {
        let wanted = target(array.data_type())?;
        let held;
        let array = if *array.data_type() == wanted {
            array
        } else {
            // A zone is dropped without moving the instant: the values count from 1970 in UTC.
            held = cast(array, &wanted).ok()?;
            &held
        };
        Some(match wanted {
            Arrow::Float64 => Self::Float(array.as_primitive::<Float64Type>().clone()),
            Arrow::Int64 => Self::Int(array.as_primitive::<Int64Type>().clone()),
            Arrow::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            Arrow::Boolean => Self::Bool(array.as_boolean().clone()),
            Arrow::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            Arrow::Timestamp(..) => {
                Self::Time(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            Arrow::List(_) => Self::Vector(array.as_list::<i32>().clone()),
            _ => Self::Nothing(array.len()),
        })
    }

    /// As [`Family::of`]; a column of any other type is shown as text, or as nothing if it has no text.
    pub(crate) fn lenient(array: &ArrayRef) -> Self {
        Self::of(array)
            .or_else(|| Self::of(&cast(array, &Arrow::Utf8).ok()?))
            .unwrap_or(Self::Nothing(array.len()))
    }

    /// The numbers of the list at `row`, missing ones as NaN; none if the list itself is missing.
    pub(crate) fn list_item(lists: &ListArray, row: usize) -> Option<Vec<f64>> {
        if lists.is_null(row) {
            return None;
        }
        let values = lists.value(row);
        Some(
            values
                .as_primitive::<Float64Type>()
                .iter()
                .map(|v| v.unwrap_or(f64::NAN))
                .collect(),
        )
    }
}
