//! Lists: the filter language, ordering and paging, compiled to SQL over a closed set of fields.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use luthier_types::{Code, Error, Result};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::failed;

/// How deep conditions may nest.
const MAX_DEPTH: usize = 16;

/// A part of a filter: a rule, or several with a condition between them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Filter {
    /// Several parts.
    Group(Group),
    /// One comparison.
    Rule(Rule),
}

/// Several parts with a condition between them; no part at all restricts nothing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Group {
    /// What holds between the parts.
    pub condition: Junction,
    /// The parts.
    pub rules: Vec<Filter>,
}

/// What holds between the parts of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Junction {
    /// All of them.
    And,
    /// At least one.
    Or,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rule {
    /// The field's public name.
    pub field: String,
    /// The comparison.
    pub operator: Operator,
    /// What it is compared with; a list for `in` and `between`.
    #[serde(default)]
    pub value: Value,
}

/// The comparisons of the filter language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Any,
    Equal,
    NotEqual,
    In,
    NotIn,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Between,
    NotBetween,
    BeginsWith,
    NotBeginsWith,
    Contains,
    NotContains,
    EndsWith,
    NotEndsWith,
    IsEmpty,
    IsNotEmpty,
    IsNull,
    IsNotNull,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, ids and words.
    Text,
    /// A whole number.
    Integer,
    /// A point in time.
    Time,
}

/// A field that lists can be filtered and ordered by.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Public name.
    pub name: &'static str,
    /// SQL expression.
    pub sql: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What part of a list is wanted, in which order.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Only what passes.
    pub filter: Option<Filter>,
    /// Only what has this text in its name.
    pub search: Option<String>,
    /// Public names of fields; `true` for descending.
    pub ordering: Vec<(String, bool)>,
    /// Most items.
    pub limit: u32,
    /// Items to skip.
    pub offset: u64,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            filter: None,
            search: None,
            ordering: vec![],
            limit: 50,
            offset: 0,
        }
    }
}

// === impl ListQuery ===

impl ListQuery {
    /// What has these values in these fields.
    pub fn equal<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let rules = fields
            .into_iter()
            .map(|(field, value)| {
                Filter::Rule(Rule {
                    field: field.to_owned(),
                    operator: Operator::Equal,
                    value: Value::String(value),
                })
            })
            .collect();
        Self {
            filter: Some(Filter::Group(Group {
                condition: Junction::And,
                rules,
            })),
            ..Self::default()
        }
    }

    /// The same, only of what also has this value in this field.
    #[must_use]
    pub fn and_equal(mut self, field: &str, value: String) -> Self {
        let mut outer = Self::equal([(field, value)]).filter;
        if let (Some(Filter::Group(group)), Some(inner)) = (&mut outer, self.filter.take()) {
            group.rules.push(inner);
        }
        self.filter = outer;
        self
    }
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The items of this part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// How the rows of one resource are listed.
pub(crate) struct Source {
    /// `SELECT` list.
    pub(crate) select: &'static str,
    /// `FROM` clause with joins.
    pub(crate) from: &'static str,
    /// What can be filtered and ordered by. Has `name`, which `search` looks into.
    pub(crate) fields: &'static [Field],
    /// Ends every ordering, so that it is total: the id, which grows with time of creation.
    pub(crate) id: &'static str,
}

// === impl Source ===

impl Source {
    /// The rows of the wanted part, and how many there are in all.
    pub(crate) async fn fetch(
        &self,
        db: &mut SqliteConnection,
        query: &ListQuery,
    ) -> Result<(Vec<SqliteRow>, u64)> {
        let total: i64 = self
            .count(query)?
            .build_query_scalar()
            .fetch_one(&mut *db)
            .await
            .map_err(failed("counting a list"))?;
        let rows = self
            .items(query)?
            .build()
            .fetch_all(db)
            .await
            .map_err(failed("reading a list"))?;
        Ok((rows, u64::try_from(total).unwrap_or(0)))
    }

    /// The query that counts everything that passes.
    fn count(&self, query: &ListQuery) -> Result<QueryBuilder<Sqlite>> {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM ");
        sql.push(self.from);
        self.push_where(&mut sql, query)?;
        Ok(sql)
    }

    /// The query for the wanted part.
    fn items(&self, query: &ListQuery) -> Result<QueryBuilder<Sqlite>> {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(self.select).push(" FROM ").push(self.from);
        self.push_where(&mut sql, query)?;
        sql.push(" ORDER BY ");
        for (name, descending) in &query.ordering {
            let field = self.field(name)?;
            sql.push(field.sql)
                .push(if *descending { " DESC, " } else { " ASC, " });
        }
        // The id follows the direction of the first field, so that newest first is newest first
        // within one microsecond as well.
        let descending = query.ordering.first().is_some_and(|(_, d)| *d);
        sql.push(self.id)
            .push(if descending { " DESC" } else { " ASC" });
        sql.push(" LIMIT ").push_bind(i64::from(query.limit));
        sql.push(" OFFSET ")
            .push_bind(i64::try_from(query.offset).unwrap_or(i64::MAX));
        Ok(sql)
    }

    fn push_where(&self, sql: &mut QueryBuilder<Sqlite>, query: &ListQuery) -> Result<()> {
        sql.push(" WHERE 1");
        if let Some(filter) = &query.filter {
            sql.push(" AND ");
            self.push_filter(sql, filter, 0)?;
        }
        if let Some(search) = &query.search {
            let name = self.field("name")?;
            sql.push(" AND instr(lower(")
                .push(name.sql)
                .push("), lower(");
            sql.push_bind(search.clone()).push(")) > 0");
        }
        Ok(())
    }

    fn push_filter(
        &self,
        sql: &mut QueryBuilder<Sqlite>,
        filter: &Filter,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(refused(format!(
                "the filter nests deeper than {MAX_DEPTH} conditions"
            )));
        }
        match filter {
            Filter::Rule(rule) => self.push_rule(sql, rule),
            Filter::Group(group) if group.rules.is_empty() => {
                sql.push("1");
                Ok(())
            }
            Filter::Group(group) => {
                sql.push("(");
                for (i, part) in group.rules.iter().enumerate() {
                    if i > 0 {
                        sql.push(match group.condition {
                            Junction::And => " AND ",
                            Junction::Or => " OR ",
                        });
                    }
                    self.push_filter(sql, part, depth + 1)?;
                }
                sql.push(")");
                Ok(())
            }
        }
    }

    fn push_rule(&self, sql: &mut QueryBuilder<Sqlite>, rule: &Rule) -> Result<()> {
        use Operator as O;
        let field = self.field(&rule.field)?;
        let compare = |sql: &mut QueryBuilder<Sqlite>, operator: &str| -> Result<()> {
            sql.push(field.sql).push(operator);
            push_value(sql, field, &rule.value)
        };
        match rule.operator {
            O::Any => {
                sql.push("1");
                Ok(())
            }
            // `IS` compares like `=` and takes null for a value.
            O::Equal => compare(sql, " IS "),
            O::NotEqual => compare(sql, " IS NOT "),
            O::Less => compare(sql, " < "),
            O::LessOrEqual => compare(sql, " <= "),
            O::Greater => compare(sql, " > "),
            O::GreaterOrEqual => compare(sql, " >= "),
            O::In | O::NotIn => {
                let negated = rule.operator == O::NotIn;
                sql.push("(").push(field.sql);
                sql.push(if negated {
                    " IS NULL OR "
                } else {
                    " IS NOT NULL AND "
                });
                sql.push(field.sql)
                    .push(if negated { " NOT IN (" } else { " IN (" });
                for (i, value) in list(rule)?.iter().enumerate() {
                    if i > 0 {
                        sql.push(", ");
                    }
                    push_value(sql, field, value)?;
                }
                sql.push("))");
                Ok(())
            }
            O::Between | O::NotBetween => {
                let [low, high] = list(rule)? else {
                    return Err(refused(format!(
                        "the rule on `{}` needs two values",
                        rule.field
                    )));
                };
                sql.push(if rule.operator == O::NotBetween {
                    "NOT ("
                } else {
                    "("
                });
                sql.push(field.sql).push(" >= ");
                push_value(sql, field, low)?;
                sql.push(" AND ").push(field.sql).push(" <= ");
                push_value(sql, field, high)?;
                sql.push(")");
                Ok(())
            }
            O::BeginsWith | O::NotBeginsWith => {
                let text = text(rule)?;
                sql.push("substr(coalesce(")
                    .push(field.sql)
                    .push(", ''), 1, length(");
                sql.push_bind(text.clone()).push("))");
                sql.push(if rule.operator == O::BeginsWith {
                    " = "
                } else {
                    " <> "
                });
                sql.push_bind(text);
                Ok(())
            }
            O::EndsWith | O::NotEndsWith => {
                // Counted from the front, because `substr` takes an offset of -0 for the start.
                let text = text(rule)?;
                let value = format!("coalesce({}, '')", field.sql);
                sql.push(if rule.operator == O::NotEndsWith {
                    "NOT ("
                } else {
                    "("
                });
                sql.push("length(").push(&value).push(") >= length(");
                sql.push_bind(text.clone())
                    .push(") AND substr(")
                    .push(&value);
                sql.push(", length(").push(&value).push(") - length(");
                sql.push_bind(text.clone())
                    .push(") + 1) = ")
                    .push_bind(text);
                sql.push(")");
                Ok(())
            }
            O::Contains | O::NotContains => {
                sql.push("instr(coalesce(").push(field.sql).push(", ''), ");
                sql.push_bind(text(rule)?);
                sql.push(if rule.operator == O::Contains {
                    ") > 0"
                } else {
                    ") = 0"
                });
                Ok(())
            }
            O::IsEmpty | O::IsNotEmpty => {
                sql.push("coalesce(").push(field.sql).push(", '')");
                sql.push(if rule.operator == O::IsEmpty {
                    " = ''"
                } else {
                    " <> ''"
                });
                Ok(())
            }
            O::IsNull => {
                sql.push(field.sql).push(" IS NULL");
                Ok(())
            }
            O::IsNotNull => {
                sql.push(field.sql).push(" IS NOT NULL");
                Ok(())
            }
        }
    }

    fn field(&self, name: &str) -> Result<&'static Field> {
        self.fields.iter().find(|f| f.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.fields.iter().map(|f| f.name).collect();
            Error::new(Code::BadRequest, format!("this list has no field `{name}`"))
                .hint(format!("Its fields are {}.", known.join(", ")))
        })
    }
}

fn list(rule: &Rule) -> Result<&[Value]> {
    match &rule.value {
        Value::Array(values) => Ok(values),
        _ => Err(refused(format!(
            "the rule on `{}` needs a list",
            rule.field
        ))),
    }
}

fn text(rule: &Rule) -> Result<String> {
    match &rule.value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(refused(format!("the rule on `{}` needs text", rule.field))),
    }
}

fn push_value(sql: &mut QueryBuilder<Sqlite>, field: &Field, value: &Value) -> Result<()> {
    let wrong = |what: &str| {
        refused(format!(
            "the rule on `{}` has {value}, which is not {what}",
            field.name
        ))
    };
    match (field.kind, value) {
        (_, Value::Null) => sql.push("NULL"),
        (Kind::Text, Value::String(text)) => sql.push_bind(text.clone()),
        (Kind::Text, Value::Number(_) | Value::Bool(_)) => sql.push_bind(value.to_string()),
        (Kind::Text, _) => return Err(wrong("text")),
        (Kind::Integer, _) => {
            let number = match value {
                Value::Number(number) => number.as_i64(),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            sql.push_bind(number.ok_or_else(|| wrong("a whole number"))?)
        }
        (Kind::Time, Value::String(text)) => {
            sql.push_bind(micros(text).ok_or_else(|| wrong("a time"))?)
        }
        (Kind::Time, _) => return Err(wrong("a time")),
    };
    Ok(())
}

/// Microseconds since the epoch of ISO text, in UTC when it says no zone.
fn micros(text: &str) -> Option<i64> {
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let local: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(local).ok()
    })?;
    Some(instant.as_microsecond())
}

fn refused(cause: String) -> Error {
    Error::new(Code::BadRequest, cause).hint(
        "A filter is {\"condition\": \"AND\", \"rules\": [{\"field\": …, \"operator\": …, \
         \"value\": …}]}.",
    )
}
