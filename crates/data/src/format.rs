//! The forms in which tables travel, and their names.

/// A form in which a table travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// An array of objects, one for each row.
    Json,
    /// Arrow IPC as a stream.
    ArrowStream,
    /// Arrow IPC as a file, which is also Feather, version 2.
    ArrowFile,
    /// Apache Parquet.
    Parquet,
    /// Comma-separated text with a heading.
    Csv,
}

impl Format {
    /// Every form, the most usual first.
    pub const ALL: [Self; 5] = [
        Self::Json,
        Self::ArrowStream,
        Self::ArrowFile,
        Self::Parquet,
        Self::Csv,
    ];

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::ArrowStream => luthier_types::runner::ARROW_STREAM,
            Self::ArrowFile => "application/vnd.apache.arrow.file",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv",
        }
    }

    /// The form of a media type without parameters, in whatever case.
    pub fn of_media_type(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|f| f.media_type().eq_ignore_ascii_case(name))
    }

    /// The media types of every form, as a list for a message.
    pub fn media_types() -> String {
        Self::ALL.map(Self::media_type).join(", ")
    }
}
