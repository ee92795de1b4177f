//! What the replicas of each revision were seen to use.

use jiff::Timestamp;
use luthier_types::{
    Mebibytes, Result, RevisionId,
    sizing::{Busiest, Usage},
};
use sqlx::{Row as _, SqliteConnection};

use crate::{failed, values::to_micros};

/// Adds what was seen to what is known of a revision: peaks stay the highest, counts add up. Nothing
/// when the revision is no more.
///
/// # Errors
/// `Internal`.
pub async fn add(
    db: &mut SqliteConnection,
    revision: RevisionId,
    seen: &Usage,
    at: Timestamp,
) -> Result<()> {
    let bytes = |value: Option<u64>| value.and_then(|v| i64::try_from(v).ok());
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO usage (revision_id, memory_limit, load_peak, serve_peak, working_peak, oom_limit,
             most_rows, requests, calls, rows, cpu_seconds, busiest_cpu, busiest_rate, updated_at)
         SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM revisions WHERE id = ?
         ON CONFLICT (revision_id) DO UPDATE SET
             memory_limit = excluded.memory_limit,
             load_peak = nullif(max(ifnull(load_peak, -1), ifnull(excluded.load_peak, -1)), -1),
             serve_peak = nullif(max(ifnull(serve_peak, -1), ifnull(excluded.serve_peak, -1)), -1),
             working_peak =
                 nullif(max(ifnull(working_peak, -1), ifnull(excluded.working_peak, -1)), -1),
             oom_limit = nullif(max(ifnull(oom_limit, -1), ifnull(excluded.oom_limit, -1)), -1),
             most_rows = max(most_rows, excluded.most_rows),
             requests = requests + excluded.requests,
             calls = calls + excluded.calls,
             rows = rows + excluded.rows,
             cpu_seconds = cpu_seconds + excluded.cpu_seconds,
             busiest_rate = CASE WHEN ifnull(excluded.busiest_cpu, -1) > ifnull(busiest_cpu, -1)
                 THEN excluded.busiest_rate ELSE busiest_rate END,
             busiest_cpu =
                 nullif(max(ifnull(busiest_cpu, -1), ifnull(excluded.busiest_cpu, -1)), -1),
             updated_at = excluded.updated_at",
    )
    .bind(seen.memory_limit.0)
    .bind(bytes(seen.load_peak))
    .bind(bytes(seen.serve_peak))
    .bind(bytes(seen.working_peak))
    .bind(seen.oom_limit.map(|limit| limit.0))
    .bind(count(seen.most_rows))
    .bind(count(seen.requests))
    .bind(count(seen.calls))
    .bind(count(seen.rows))
    .bind(seen.cpu_seconds)
    .bind(seen.busiest.map(|b| b.millicpu))
    .bind(seen.busiest.map(|b| b.requests_per_second))
    .bind(to_micros(at))
    .bind(revision.to_string())
    .execute(db)
    .await
    .map_err(failed("recording what a revision uses"))?;
    Ok(())
}

/// What is known of a revision; `None` until a replica of it has loaded or run out of memory.
///
/// # Errors
/// `Internal`.
pub async fn of_revision(db: &mut SqliteConnection, revision: RevisionId) -> Result<Option<Usage>> {
    let row = sqlx::query("SELECT * FROM usage WHERE revision_id = ?")
        .bind(revision.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading what a revision uses"))?;
    let Some(row) = row else {
        return Ok(None);
    };
    let bytes = |column: &str| row.get::<Option<i64>, _>(column).map(i64::unsigned_abs);
    let count = |column: &str| row.get::<i64, _>(column).unsigned_abs();
    let busiest = row.get::<Option<f64>, _>("busiest_cpu");
    Ok(Some(Usage {
        memory_limit: Mebibytes(row.get("memory_limit")),
        load_peak: bytes("load_peak"),
        serve_peak: bytes("serve_peak"),
        working_peak: bytes("working_peak"),
        oom_limit: row.get::<Option<u32>, _>("oom_limit").map(Mebibytes),
        most_rows: count("most_rows"),
        requests: count("requests"),
        calls: count("calls"),
        rows: count("rows"),
        cpu_seconds: row.get("cpu_seconds"),
        busiest: busiest.map(|millicpu| Busiest {
            millicpu,
            requests_per_second: row
                .get::<Option<f64>, _>("busiest_rate")
                .unwrap_or_default(),
        }),
    }))
}
