//! Operations on functions, layers, deployments, triggers, environments, runs and secrets.

use std::collections::BTreeMap;

use headwater_model::{InvokeAsyncRequest, Principal, ProjectFiles};
use headwater_service::{
    CallInput, FunctionChange, FunctionUpdate, FunctionUrlChange, LayerChange, OptionalCallParts,
    ResultKind, TriggerEventFilter, UrlAuth, UrlOptions,
};
use serde_json::{Value, json};

use crate::lake::request;
use crate::matrix::{EMPTY, LISTS, LISTS_USABLE, NO, OK, Row, administers, done, every};
use crate::matrix::{listed, reads, writes};

const NO_FUNCTION: &str = "function_not_found";
const NO_EVENT: &str = "event_not_found";

pub const ROWS: &[Row] = &[
    ("Invocations::list", LISTS_USABLE, |c| {
        listed(async move { c.service.invocations().list(&c.by).await })
    }),
    ("Invocations::find", writes("ok"), |c| {
        done(async move { c.service.invocations().find(&c.by, "f").await })
    }),
    ("Invocations::find_in_files", writes(NO_FUNCTION), |c| {
        let files = project();
        done(async move { c.service.invocations().find_in_files(&c.by, files, "none").await })
    }),
    // The function allows no concurrent calls.
    ("Invocations::call", writes("too_busy"), |c| {
        done(async move {
            let invocations = c.service.invocations();
            let function = invocations.find(&Principal::owner(), "f").await?;
            let (returns, client) = (ResultKind::Any, OptionalCallParts::default());
            let arguments = Vec::new();
            let input = CallInput { arguments, returns, client, permit: None, started: None };
            let encode = async |_, _| Ok(Value::Null);
            invocations.call(&c.by, function, input, encode).await
        })
    }),
    ("Invocations::accept", writes(NO_FUNCTION), |c| {
        let call = InvokeAsyncRequest::default();
        done(async move { c.service.invocations().accept(&c.by, "none", call).await })
    }),
    ("Invocations::accept_events", writes(NO_FUNCTION), |c| {
        done(async move { c.service.invocations().accept_events(&c.by, "none", Vec::new()).await })
    }),
    ("StandaloneFunctions::list", LISTS_USABLE, |c| {
        listed(async move { c.service.invocations().standalone().list(&c.by).await })
    }),
    ("StandaloneFunctions::get", writes("ok"), |c| {
        done(async move { c.service.invocations().standalone().get(&c.by, "f").await })
    }),
    ("StandaloneFunctions::show", writes("ok"), |c| {
        done(async move { c.service.invocations().standalone().show(&c.by, "f").await })
    }),
    ("StandaloneFunctions::version", writes("ok"), |c| {
        done(async move { c.service.invocations().standalone().version(&c.by, "f", None).await })
    }),
    ("StandaloneFunctions::provisioned", writes("ok"), |c| {
        let deployed = c.service.invocations().standalone();
        done(async move { deployed.provisioned(&c.by, "f", "$LATEST").await })
    }),
    ("StandaloneFunctions::stored_versions", writes("ok"), |c| {
        done(async move { c.service.invocations().standalone().stored_versions(&c.by, "f").await })
    }),
    ("StandaloneFunctions::versions", writes("ok"), |c| {
        done(async move { c.service.invocations().standalone().versions(&c.by, "f").await })
    }),
    ("StandaloneFunctions::deploy", writes("invalid_argument"), |c| {
        let new = request(json!({"files": {}}));
        done(async move { c.service.invocations().standalone().deploy(&c.by, "made", new).await })
    }),
    ("StandaloneFunctions::create", writes("invalid_argument"), |c| {
        done(async move {
            let deployed = c.service.invocations().standalone();
            let files = deployed.read_files(project(), None).await?;
            let changes = vec![FunctionChange::Publish(None)];
            deployed.create(&c.by, "made", files, changes).await
        })
    }),
    ("StandaloneFunctions::change", writes("ok"), |c| {
        let update = FunctionUpdate::from(FunctionChange::Concurrency(Some(0)));
        done(async move { c.service.invocations().standalone().change(&c.by, "f", update).await })
    }),
    ("StandaloneFunctions::check_destination", writes("ok"), |c| {
        let deployed = c.service.invocations().standalone();
        done(async move { deployed.check_destination(&c.by, "table://made").await })
    }),
    ("StandaloneFunctions::delete_alias", writes(NO_FUNCTION), |c| {
        let deployed = c.service.invocations().standalone();
        done(async move { deployed.delete_alias(&c.by, "none", "live").await })
    }),
    ("StandaloneFunctions::get_url", writes(NO_FUNCTION), |c| {
        done(async move { c.service.invocations().standalone().get_url(&c.by, "none", None).await })
    }),
    ("StandaloneFunctions::set_url", writes(NO_FUNCTION), |c| {
        let deployed = c.service.invocations().standalone();
        let (auth, settings) = (Some(UrlAuth::Iam), UrlOptions::default());
        let change = FunctionUrlChange { auth, settings, exists: None };
        done(async move { deployed.set_url(&c.by, "none", None, change).await })
    }),
    ("StandaloneFunctions::delete_url", writes(NO_FUNCTION), |c| {
        let deployed = c.service.invocations().standalone();
        done(async move { deployed.delete_url(&c.by, "none", None).await })
    }),
    ("StandaloneFunctions::delete", writes(NO_FUNCTION), |c| {
        done(async move { c.service.invocations().standalone().delete(&c.by, "none").await })
    }),
    ("Layers::list", LISTS_USABLE, |c| {
        listed(async move { c.service.invocations().layers().list(&c.by).await })
    }),
    ("Layers::get", writes("ok"), |c| {
        done(async move { c.service.invocations().layers().get(&c.by, "base").await })
    }),
    ("Layers::publish", writes("invalid_argument"), |c| {
        let new = request(json!({"files": {}}));
        done(async move { c.service.invocations().layers().publish(&c.by, "made", new).await })
    }),
    ("Layers::check_change", writes("ok"), |c| {
        done(async move { c.service.invocations().layers().check_change(&c.by, "none").await })
    }),
    ("Layers::change", writes(NO_FUNCTION), |c| {
        let change = LayerChange::Delete(1);
        done(async move { c.service.invocations().layers().change(&c.by, "none", &change).await })
    }),
    ("Deployments::list", LISTS_USABLE, |c| {
        listed(async move { c.service.deployments().list(&c.by).await })
    }),
    ("Deployments::get", writes("ok"), |c| {
        done(async move { c.service.deployments().get(&c.by, &c.known.version).await })
    }),
    ("Deployments::deploy", writes("invalid_argument"), |c| {
        let new = request(json!({"files": {}}));
        done(async move { c.service.deployments().deploy(&c.by, new).await })
    }),
    // The version has all rights, because the owner deployed it.
    ("Deployments::activate", administers("ok"), |c| {
        done(async move { c.service.deployments().activate(&c.by, c.known.version.clone()).await })
    }),
    ("Triggers::list", LISTS, |c| listed(async move { c.service.triggers().list(&c.by).await })),
    ("Triggers::create", writes("invalid_argument"), |c| {
        let new = request(json!({"name": "made"}));
        done(async move { c.service.triggers().create(&c.by, new, false).await })
    }),
    ("Triggers::delete", writes("trigger_not_found"), |c| {
        done(async move { c.service.triggers().delete(&c.by, "none").await })
    }),
    ("Triggers::events", reads(EMPTY), |c| {
        let trigger = Some("landing".to_owned());
        let filter = TriggerEventFilter { trigger, ..TriggerEventFilter::default() };
        listed(async move { c.service.triggers().events(&c.by, &filter).await })
    }),
    ("Triggers::event", every(NO_EVENT), |c| {
        done(async move { c.service.triggers().event(&c.by, "none").await })
    }),
    ("Triggers::remove", writes(NO_EVENT), |c| {
        done(async move { c.service.triggers().remove(&c.by, "none").await })
    }),
    ("Triggers::replay", writes(NO_EVENT), |c| {
        done(async move { c.service.triggers().replay(&c.by, "none").await })
    }),
    ("Environments::list", every(EMPTY), |c| {
        listed(async move { c.service.environments().list(&c.by).await })
    }),
    ("Environments::explain", reads("environment_not_found"), |c| {
        done(async move { c.service.environments().explain(&c.by, "none").await })
    }),
    ("Environments::prune", writes("ok"), |c| {
        let prune = request(json!({"dry_run": true}));
        done(async move { c.service.environments().prune(&c.by, &prune).await })
    }),
    ("Environments::rebuild", writes("environment_not_found"), |c| {
        done(async move { c.service.environments().rebuild(&c.by, "none").await })
    }),
    ("Runs::plan", writes("ok"), |c| {
        let run = request(json!({"files": project()}));
        done(async move { c.service.runs().plan(&c.by, &run).await })
    }),
    ("Runs::start", writes("ref_not_found"), |c| {
        let run = request(json!({"files": project(), "ref": "none"}));
        done(async move { c.service.runs().start(&c.by, run).await })
    }),
    ("Runs::backfill", writes("ref_not_found"), |c| {
        let run = json!({"files": project(), "ref": "none"});
        let backfill = request(json!({"run": run, "parameter": "n", "values": ["1"]}));
        done(async move { c.service.runs().backfill(&c.by, backfill).await })
    }),
    ("Secrets::list", LISTS_USABLE, |c| {
        listed(async move { c.service.secrets().list(&c.by).await })
    }),
    ("Secrets::set", [NO, NO, NO, OK, OK], |c| {
        let value = request(json!({"value": "x"}));
        done(async move { c.service.secrets().set(&c.by, "MADE", value).await })
    }),
    ("Secrets::delete", writes("ok"), |c| {
        done(async move { c.service.secrets().delete(&c.by, "MADE").await })
    }),
];

fn project() -> ProjectFiles {
    let text = "[project]\nname = \"other\"\n";
    let files = BTreeMap::from([("headwater.toml", text), ("a.sql", "SELECT 1 AS a\n")]);
    request(json!(files))
}
