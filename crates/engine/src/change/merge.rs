//! The MERGE statement: plans the join of target and source, and the new rows of each clause.

use datafusion::common::{
    Column, DFSchemaRef, Result as PlanResult, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, case, lit, when,
};

use super::apply_change::ChangeOptions;
use super::target::{COMES, TargetColumns};
use crate::assignment_cast::to_column;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::statement_result::StatementResult;
use headwater_model::Action as TableAction;
use headwater_sql::change::{MergeMatch, MergeStatement, WhenAction, WhenClause, add_columns};
use headwater_sql::name_new_rows;
use headwater_sql::number_literal::exact_columns;

/// Column that contains, for each joined row, the index of the WHEN clause that applies to the row.
const CLAUSE: &str = "\0a";

impl Session {
    /// Runs MERGE.
    pub(crate) async fn merge(&self, merge: MergeStatement) -> Result<StatementResult> {
        let MergeStatement {
            table,
            alias,
            source_label,
            clauses,
            mut source,
            marked,
            is_positional,
        } = merge;
        let actions =
            [TableAction::Select, TableAction::Insert, TableAction::Update, TableAction::Delete];
        let target = self.begin_change(&table, &actions).await?;
        let columns = target.columns(alias)?;
        if is_positional {
            name_new_rows(source.query_mut(), &columns.names)?;
        }
        let values = MergeClauses::of(&clauses, &columns)?;
        // The first columns of the query are the file, the row index and, if `marked`, a flag that
        // is true for rows of the source. The conditions and values of the WHEN clauses follow.
        let first = 2 + usize::from(marked);
        exact_columns(source.query_mut(), |index| {
            index.checked_sub(first).is_some_and(|place| values.is_decimal(place, &columns))
        });
        add_columns(source.query_mut(), &columns.label, &columns.names, 'c');
        if values.by_name {
            add_columns(source.query_mut(), &source_label, &columns.names, 's');
        }
        let run = self.run();
        let found = self
            .plan_change(&run, &target, source, move |plan| {
                TargetSourceJoin::of(plan, &clauses, &columns, &values, marked)?
                    .rows(&clauses, &columns, &values)
            })
            .await?;
        let message = format!("merge into {}", target.name);
        let kind = ChangeOptions { message, word: "merge", once: true, returning: None };
        Box::pin(self.apply_change(target, run, found, Vec::new(), kind)).await
    }
}

/// Origin of the value of one column in a row that MERGE inserts or updates.
#[derive(Debug, Clone, Copy)]
enum ValueOrigin {
    /// An expression in a WHEN clause: its index among the expressions of all WHEN clauses.
    Value(usize),
    /// The value that the existing row has.
    Kept,
    /// The source's column with the same name.
    Source,
    /// The column's default, or null.
    Default,
}

/// The WHEN clauses of a MERGE: their conditions, and the origins of the values that they write.
/// Both lists have one item for each clause.
struct MergeClauses {
    /// Index of each clause's condition among the expressions of all clauses; `None` without a
    /// condition.
    conditions: Vec<Option<usize>>,
    /// Origin of each column's value in the row that the clause writes; `None` for DELETE.
    columns: Vec<Option<Vec<ValueOrigin>>>,
    /// Total number of conditions and value expressions in all clauses.
    count: usize,
    /// True if a clause copies the source's columns by name, as in `UPDATE SET *`.
    by_name: bool,
}

impl MergeClauses {
    fn of(clauses: &[WhenClause], columns: &TargetColumns) -> Result<Self> {
        let mut values =
            MergeClauses { conditions: Vec::new(), columns: Vec::new(), count: 0, by_name: false };
        for clause in clauses {
            values.conditions.push(clause.condition.then_some(values.count));
            values.count += usize::from(clause.condition);
            let new = values.of_action(&clause.action, columns)?;
            values.columns.push(new);
        }
        Ok(values)
    }

    /// Returns true if the expression with the index `place` is assigned to a decimal column.
    fn is_decimal(&self, place: usize, columns: &TargetColumns) -> bool {
        let is_place = |from: &ValueOrigin| matches!(from, ValueOrigin::Value(it) if *it == place);
        self.columns.iter().flatten().any(|new| {
            let mut fields = new.iter().zip(columns.schema.fields());
            fields.any(|(from, field)| is_place(from) && field.data_type().is_decimal())
        })
    }

    fn of_action(
        &mut self,
        action: &WhenAction,
        columns: &TargetColumns,
    ) -> Result<Option<Vec<ValueOrigin>>> {
        let width = columns.names.len();
        let (assigned, defaults, others) = match action {
            WhenAction::Delete => return Ok(None),
            WhenAction::Update(None) | WhenAction::InsertAll => {
                self.by_name = true;
                return Ok(Some(vec![ValueOrigin::Source; width]));
            }
            WhenAction::Update(Some(assigned)) => {
                let defaults = assigned.iter().map(|column| column.default).collect();
                (columns.find_all(assigned)?, defaults, ValueOrigin::Kept)
            }
            WhenAction::Insert { columns: listed, defaults } if listed.is_empty() => {
                if defaults.len() != width {
                    return Err(Error::invalid(format!(
                        "{} values are given for {width} columns",
                        defaults.len()
                    )));
                }
                ((0..width).collect(), defaults.clone(), ValueOrigin::Default)
            }
            WhenAction::Insert { columns: listed, defaults } => {
                (columns.find_all(listed)?, defaults.clone(), ValueOrigin::Default)
            }
        };
        let mut new = vec![others; width];
        for (column, default) in assigned.into_iter().zip(defaults) {
            new[column] =
                if default { ValueOrigin::Default } else { ValueOrigin::Value(self.count) };
            self.count += 1;
        }
        Ok(Some(new))
    }
}

/// The join of the target and the source, with the expressions of its select list.
struct TargetSourceJoin {
    input: LogicalPlan,
    file: Expr,
    row: Expr,
    /// The index of the WHEN clause that applies to a row, or null.
    clause: Expr,
    given: Vec<Expr>,
    kept: Vec<Expr>,
    source: Vec<Expr>,
}

impl TargetSourceJoin {
    /// Splits the plan into the join and the expressions of its select list. The values of a WHEN
    /// clause can then be computed only for the rows to which the clause applies.
    fn of(
        plan: LogicalPlan,
        clauses: &[WhenClause],
        columns: &TargetColumns,
        values: &MergeClauses,
        marked: bool,
    ) -> PlanResult<Self> {
        let LogicalPlan::Projection(projection) = plan else {
            return plan_err!("the join of the target and the source of MERGE cannot be planned");
        };
        let mut items = projection.expr.into_iter().map(Expr::unalias);
        let mut next = || {
            items.next().ok_or_else(|| {
                plan_datafusion_err!("a clause of MERGE has fewer values than columns")
            })
        };
        let (file, row) = (next()?, next()?);
        let mark = if marked { Some(next()?) } else { None };
        let width = columns.names.len();
        let given = (0..values.count).map(|_| next()).collect::<PlanResult<Vec<_>>>()?;
        let kept = (0..width).map(|_| next()).collect::<PlanResult<Vec<_>>>()?;
        let named = if values.by_name { width } else { 0 };
        let source = (0..named).map(|_| next()).collect::<PlanResult<Vec<_>>>()?;
        let mut numbered: Vec<(Expr, Expr)> = Vec::new();
        for (number, clause) in clauses.iter().enumerate() {
            let mut takes = match (clause.when, &mark) {
                (MergeMatch::NotMatched, _) => file.clone().is_null(),
                (MergeMatch::Matched, None) => file.clone().is_not_null(),
                (MergeMatch::Matched, Some(mark)) => {
                    file.clone().is_not_null().and(mark.clone().is_not_null())
                }
                (MergeMatch::NotMatchedBySource, Some(mark)) => mark.clone().is_null(),
                (MergeMatch::NotMatchedBySource, None) => lit(false),
            };
            if let Some(condition) = values.conditions[number] {
                takes = takes.and(given[condition].clone());
            }
            numbered.push((takes, lit(number as i32)));
        }
        let clause = cases(None, numbered)?;
        let input = std::sync::Arc::unwrap_or_clone(projection.input);
        Ok(TargetSourceJoin { input, file, row, clause, given, kept, source })
    }

    /// Plans the affected rows: each with its position, a flag that is true if MERGE writes a new
    /// version of the row, and the columns of the new version.
    fn rows(
        self,
        clauses: &[WhenClause],
        columns: &TargetColumns,
        values: &MergeClauses,
    ) -> PlanResult<LogicalPlan> {
        let through = self.input.schema().columns().into_iter().map(Expr::Column);
        let numbered = through.chain([self.clause.clone().alias(CLAUSE)]);
        let clause = Expr::Column(Column::from_name(CLAUSE));
        let joined = LogicalPlanBuilder::from(self.input.clone())
            .project(numbered.collect::<Vec<_>>())?
            .filter(clause.clone().is_not_null())?;
        let mut exprs = vec![self.file.clone(), self.row.clone()];
        let makes = |number: usize| values.columns[number].is_some();
        let makers: Vec<Expr> =
            (0..clauses.len()).filter(|n| makes(*n)).map(|n| lit(n as i32)).collect();
        if !makers.is_empty() {
            exprs.push(clause.clone().in_list(makers, false).alias(COMES));
            let schema = joined.schema().clone();
            for index in 0..columns.names.len() {
                exprs.push(self.column(index, columns, values, &clause, &schema)?);
            }
        }
        joined.project(exprs)?.build()
    }

    /// Returns the expression for a column of the new rows, cast to the type of the table's column.
    fn column(
        &self,
        index: usize,
        columns: &TargetColumns,
        values: &MergeClauses,
        clause: &Expr,
        schema: &DFSchemaRef,
    ) -> PlanResult<Expr> {
        let field = columns.schema.field(index);
        let mut choices = Vec::new();
        for (number, new) in values.columns.iter().enumerate() {
            let value = match new.as_ref().map(|new| new[index]) {
                None => continue,
                Some(ValueOrigin::Default) => match columns.defaults.get(field.name()) {
                    Some(default) => default,
                    None => continue,
                },
                Some(ValueOrigin::Value(place)) => &self.given[place],
                Some(ValueOrigin::Kept) => &self.kept[index],
                Some(ValueOrigin::Source) => &self.source[index],
            };
            let value = to_column(value.clone(), field, &columns.table.name, schema)?;
            choices.push((lit(number as i32), value));
        }
        let value = if choices.is_empty() {
            lit(datafusion::common::ScalarValue::Null).cast_to(field.data_type(), schema)?
        } else {
            cases(Some(clause.clone()), choices)?
        };
        Ok(value.alias(field.name()))
    }
}

/// Returns `CASE [of] WHEN … THEN … END`.
fn cases(of: Option<Expr>, choices: Vec<(Expr, Expr)>) -> PlanResult<Expr> {
    let mut choices = choices.into_iter();
    let Some((first, value)) = choices.next() else {
        return plan_err!("MERGE has no clause");
    };
    let mut builder = match of {
        Some(of) => case(of).when(first, value),
        None => when(first, value),
    };
    for (choice, value) in choices {
        builder = builder.when(choice, value);
    }
    builder.end()
}
