//! Tests with every Python version on the machine from 3.10 on, because zygotes, clones, reused
//! processes and shared tables depend on interpreter internals.

use headwater_environments::Error as EnvironmentError;
use std::collections::BTreeSet;
use std::sync::Arc;

use headwater_functions::{
    Environment, EnvironmentSpec, Error, FunctionResult, Functions, Invocation, ReuseScope,
    SharedTable,
};

use crate::support::{answer, ask, call, holds, not_checked, run, run_whole, spec, start, table};

/// The newest minor version for which all packages used here are available.
const KNOWN_MAX: u32 = 13;

/// Returns the minor versions of Python 3 on the machine.
async fn minors(functions: &Functions) -> BTreeSet<u32> {
    let none = EnvironmentSpec { python: Some("3.99".to_owned()), ..spec(&[]) };
    let refused = functions.environment(&none, &|_| ()).await.unwrap_err();
    let Error::Environment(EnvironmentError::PythonNotFound { found, .. }) = refused else {
        panic!("{refused:?}")
    };
    found.iter().map(|version| version.split('.').nth(1).unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn every_python_runs_calls_cold_and_warm_and_hands_tables_over() {
    let functions = start().await;
    let minors = minors(&functions).await;
    assert!(!minors.is_empty() && minors.iter().all(|minor| *minor >= 10), "{minors:?}");
    for minor in minors {
        let python = Some(format!("3.{minor}"));
        let spec = EnvironmentSpec { python, ..spec(&[("pandas", "2.3")]) };
        match functions.environment(&spec, &|_| ()).await {
            Ok(environment) => works(&functions, &environment, minor).await,
            Err(error) if minor > KNOWN_MAX => {
                not_checked(&format!("no packages for 3.{minor}: {error}"));
            }
            Err(error) => panic!("3.{minor}: {error}"),
        }
    }
}

async fn works(functions: &Functions, environment: &Arc<Environment>, minor: u32) {
    cold_then_from_the_zygote(functions, environment, minor).await;
    again_in_the_same_process(functions, environment).await;
    what_it_raises_names_its_line(functions, environment).await;
    hands_over(functions, environment).await;
    let mut zygotes = functions.zygotes().into_iter();
    let own = zygotes.find(|zygote| zygote.environment == environment.id).unwrap();
    assert!(own.failure.is_none() && own.skipped.is_empty(), "3.{minor}: {own:?}");
}

async fn cold_then_from_the_zygote(
    functions: &Functions,
    environment: &Arc<Environment>,
    minor: u32,
) {
    let source = format!(
        "
import sys
imported = 'pandas' in sys.modules
import pandas
calls = []
def f():
    calls.append(1)
    print('said')
    frame = pandas.DataFrame({{'n': [1, 2, 3], 'text': ['a', 'b', None]}})
    right = frame['n'].sum() == 6 and frame['text'].isna().sum() == 1
    return imported and right and len(calls) == 1 and sys.version_info[:2] == (3, {minor})
"
    );
    for cold in [true, false, false] {
        let (outcome, lines) = run_whole(functions, ask(environment, &source)).await;
        let answered = matches!(outcome.returned, Ok(FunctionResult::Bool(true)));
        assert!(answered && outcome.is_cold() == cold, "3.{minor}: {outcome:?} {lines:?}");
        let [(_, Some(file), Some(8), text)] = &lines[..] else { panic!("3.{minor}: {lines:?}") };
        assert_eq!((file.as_str(), text.as_str()), ("models/m.py", "said"), "3.{minor}");
    }
}

async fn again_in_the_same_process(functions: &Functions, environment: &Arc<Environment>) {
    let source = "
import os, threading
calls = []
def f():
    calls.append(os.getpid())
    clean = os.listdir('/tmp') == []
    open('/tmp/left', 'w').close()
    threading.Thread(target=int).start()
    assert clean
    return len(calls) > 1
";
    for before in [false, true, true] {
        let again = Invocation { reuse: ReuseScope::SameFunction, ..ask(environment, source) };
        let (outcome, lines) = run_whole(functions, again).await;
        let answered =
            matches!(outcome.returned, Ok(FunctionResult::Bool(answer)) if answer == before);
        assert!(answered, "{}: {outcome:?} {lines:?}", environment.python.display());
    }
}

async fn what_it_raises_names_its_line(functions: &Functions, environment: &Arc<Environment>) {
    let source = "def g():\n    raise KeyError('none')\n\ndef f():\n    return g()\n";
    let (returned, _) = run(functions, ask(environment, source)).await;
    let Err(Error::FunctionRaised { message, frames, .. }) = returned else {
        panic!("{}: {returned:?}", environment.python.display())
    };
    assert!(message.contains("none"), "{message}");
    let lines: Vec<_> = frames.iter().map(|frame| frame.line).collect();
    assert_eq!(lines, [5, 2], "{}: {frames:?}", environment.python.display());
}

async fn hands_over(functions: &Functions, environment: &Arc<Environment>) {
    let made = async |source: &str, input: Option<&SharedTable>| {
        let arguments = input.map(|input| table("data", input)).into_iter().collect();
        let invocation = Invocation { arguments, ..call(environment, source) };
        answer(functions, invocation).await.0
    };
    let source = "
import numpy, pandas
def f():
    n = numpy.arange(1_000_000)
    return pandas.DataFrame({'n': n, 'half': n / 2, 'text': n.astype(str)})
";
    let first = made(source, None).await;
    let source = "
import pyarrow.compute as pc
def f(data):
    return data.append_column('more', pc.add(data['n'], 1)).slice(10)
";
    let second = made(source, Some(&first)).await;
    assert_eq!(
        (first.rows(), second.rows()),
        (1_000_000, 999_990),
        "{}",
        environment.python.display()
    );
    let source = "
def f(data):
    data.validate(full=True)
    frame = data.to_pandas()
    right = (frame['n'] + 1 == frame['more']).all() and (frame['n'].astype(str) == frame['text']).all()
    return bool(right) and frame['n'].sum() == sum(range(10, 1_000_000))
";
    let arguments = vec![table("data", &second)];
    holds(functions, Invocation { arguments, ..ask(environment, source) }).await;
}
