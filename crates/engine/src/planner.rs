//! Converts a resolved syntax tree to DataFusion's logical plan.
//!
//! DataFusion's own session looks up every table in async catalogs. This planner gets all tables of
//! a statement before planning, so planning does no I/O and sessions are cheap.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableFunctionArgs;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{
    DFSchema, DataFusionError, Result, ScalarValue, TableReference, plan_datafusion_err, plan_err,
};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
    Volatility, WindowUDF, lit,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, ColumnDef, Statement, TimezoneInfo};
use headwater_model::Timestamp;
use headwater_sql::data_type::normalize_types;
use headwater_sql::expression_rewrite::rewrite_for_planner;
use headwater_sql::time_travel::ConstantValue;
use headwater_sql_functions::{parse_cast, register_for_constants, round_cast};
use headwater_sql_resolve::FunctionProperties;

use crate::assignment_cast::{to_column, values_to_columns};

/// Table sources of a statement, by the namespace and label that its resolved names contain.
pub(crate) type TableSources = HashMap<(String, String), Arc<dyn TableSource>>;

/// Plans a query or an INSERT whose names are resolved.
pub(crate) fn plan(
    state: &SessionState,
    sources: &TableSources,
    statement: Statement,
) -> Result<LogicalPlan> {
    let context = PlanningContext { state, sources };
    SqlToRel::new_with_options(&context, options(state)).sql_statement_to_plan(statement)
}

/// Converts SQL column definitions to an Arrow schema.
pub(crate) fn columns(state: &SessionState, columns: Vec<ColumnDef>) -> Result<Schema> {
    let sources = TableSources::new();
    let context = PlanningContext { state, sources: &sources };
    SqlToRel::new_with_options(&context, options(state)).build_schema(columns)
}

fn options(state: &SessionState) -> ParserOptions {
    ParserOptions::from(&state.config().options().sql_parser)
}

/// Session state to plan types and constants, independent of any session.
static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    let mut state = SessionStateBuilder::new().with_default_features().build();
    let registered = register_for_constants(&mut state);
    if let Err(error) = registered {
        tracing::error!(%error, "memory limits of SQL functions could not be registered");
    }
    state
});

/// Converts two SQL types to Arrow types: maps in column definitions, which DataFusion's SQL
/// planner does not support, and times of day, for which DataFusion uses another precision.
#[derive(Debug)]
struct SqlTypePlanner;

impl TypePlanner for SqlTypePlanner {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let (key, value) = match sql_type {
            ast::DataType::Map(key, value) => (key, value),
            // DataFusion would use nanoseconds, which cannot be compared with the microseconds of
            // columns.
            ast::DataType::Time(
                None | Some(0..=6),
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone,
            ) => {
                let time = DataType::Time64(TimeUnit::Microsecond);
                return Ok(Some(Arc::new(Field::new("", time, true))));
            }
            _ => return Ok(None),
        };
        let part = |name: &str, data_type: &ast::DataType| ColumnDef {
            name: ast::Ident::with_quote('"', name),
            data_type: data_type.clone(),
            options: Vec::new(),
        };
        let parts = columns(&STATE, vec![part("key", key), part("value", value)])?;
        let key = parts.field(0).clone().with_nullable(false);
        let entries = Fields::from(vec![key, parts.field(1).clone()]);
        let entries = Field::new("entries", DataType::Struct(entries), false);
        let map = DataType::Map(Arc::new(entries), false);
        Ok(Some(Arc::new(Field::new("", map, true))))
    }
}

/// Returns a session state that has all functions and belongs to no session. It is used to plan
/// types and constants, and for hints.
pub(crate) fn template() -> &'static SessionState {
    &STATE
}

struct PlanningContext<'a> {
    state: &'a SessionState,
    sources: &'a TableSources,
}

impl ContextProvider for PlanningContext<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let schema = name.schema().unwrap_or_default().to_owned();
        let key = (schema, name.table().to_owned());
        self.sources
            .get(&key)
            .cloned()
            .ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        let functions = self.state.table_functions();
        let lower = name.to_lowercase();
        let function = functions
            .get(name)
            .or_else(|| functions.get(&lower))
            .ok_or_else(|| plan_datafusion_err!("Invalid function '{name}'"))?;
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(
                self.state.execution_props().query_execution_start_time,
            )
            .build();
        let simplifier = ExprSimplifier::new(context);
        let empty = DFSchema::empty();
        let simple = |arg| simplifier.coerce(arg, &empty).and_then(|arg| simplifier.simplify(arg));
        let args = args.into_iter().map(simple).collect::<Result<Vec<_>>>()?;
        let provider =
            function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SqlTypePlanner))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// Returns true if a function is scalar: neither an aggregate nor a window function.
pub(crate) fn is_scalar(state: &SessionState, name: &str) -> bool {
    state.scalar_functions().contains_key(name) || state.higher_order_functions().contains_key(name)
}

/// Returns the function properties that name resolution needs.
pub(crate) fn functions(state: &SessionState) -> FunctionProperties<'_> {
    let is_volatile = move |name: &str| {
        let function = state.scalar_functions().get(name);
        function.is_some_and(|it| it.signature().volatility == Volatility::Volatile)
    };
    FunctionProperties {
        is_scalar: Box::new(move |name: &str| is_scalar(state, name)),
        is_volatile: Box::new(is_volatile),
        respelled: headwater_sql_functions::respelled,
    }
}

/// Returns the plan for the rows of an INSERT ... VALUES that DataFusion has planned, with each
/// value cast to the type of its column.
pub(crate) fn rows_of(plan: LogicalPlan, columns: &[Field], table: &str) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Dml(insert) => {
            values_to_columns(Arc::unwrap_or_clone(insert.input), columns, table)
        }
        other => Err(DataFusionError::Internal(format!("not an INSERT: {}", other.display()))),
    }
}

/// Combines several plans with the same columns with UNION ALL.
pub(crate) fn all_of(plans: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    let together = |all: LogicalPlan, plan| LogicalPlanBuilder::from(all).union(plan)?.build();
    let mut plans = plans.into_iter();
    let Some(first) = plans.next() else { return plan_err!("INSERT has no rows") };
    plans.try_fold(first, together)
}

/// Casts the rows of a query to a table's columns. A column that the statement does not list gets
/// its default, or null.
pub(crate) fn cast_rows(
    plan: LogicalPlan,
    (table, schema): (&str, &Schema),
    listed: &[String],
    defaults: &HashMap<String, Expr>,
) -> Result<LogicalPlan> {
    let given = plan.schema().columns();
    let mut exprs = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let place = if listed.is_empty() {
            Some(index)
        } else {
            listed.iter().position(|name| name == field.name())
        };
        let value = match place.and_then(|place| given.get(place)) {
            Some(column) => Expr::Column(column.clone()),
            None => defaults.get(field.name()).cloned().unwrap_or_else(|| lit(ScalarValue::Null)),
        };
        exprs.push(to_column(value, field, table, plan.schema())?.alias(field.name()));
    }
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

/// Evaluates the version in a table reference; `None` if the expression is not constant.
pub fn version_constant(expr: ast::Expr) -> Option<ConstantValue> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Some(match constant(expr, Some(chrono::Utc::now())).ok()? {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => ConstantValue::Text(text),
        value if value.is_null() => ConstantValue::Null,
        value if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) => ConstantValue::Integer(number),
            _ => ConstantValue::Other,
        },
        value => match value.cast_to(&micros) {
            Ok(ScalarValue::TimestampMicrosecond(Some(micros), _)) => {
                Timestamp::from_timestamp_micros(micros)
                    .map_or(ConstantValue::Other, ConstantValue::Timestamp)
            }
            _ => ConstantValue::Other,
        },
    })
}

/// Evaluates an expression without columns. `now` is the value of `now()`.
pub(crate) fn constant(
    mut expr: ast::Expr,
    now: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<ScalarValue> {
    let _ = ast::visit_expressions_mut(&mut expr, |expr| {
        normalize_types(expr);
        rewrite_for_planner(expr);
        ControlFlow::<()>::Continue(())
    });
    let (sources, empty) = (TableSources::new(), DFSchema::empty());
    let context = PlanningContext { state: &STATE, sources: &sources };
    let planner = SqlToRel::new_with_options(&context, options(&STATE));
    let expr = planner.sql_to_expr(expr, &empty, &mut PlannerContext::new())?;
    let expr = expr.transform_up(|expr| round_cast(expr, &empty))?.data;
    let expr = expr.transform_up(|expr| Ok(parse_cast(expr, &empty)))?.data;
    let context = SimplifyContext::builder()
        .with_query_execution_start_time(now)
        .with_config_options(Arc::clone(STATE.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    match simplifier.simplify(simplifier.coerce(expr, &empty)?)? {
        Expr::Literal(value, _) => Ok(value),
        other => plan_err!("`{other}` is not constant"),
    }
}
