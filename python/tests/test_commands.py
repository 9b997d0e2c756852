"""Tests that `Client` has a method for each command of the command line."""

import re
import unittest
from pathlib import Path

import headwater

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = DOCS / "reference" / "commands.md"

# The methods of `Client` for each command.
METHODS = {
    "access explain": "explain_access",
    "access ls": "grants",
    "audit": "audit audit_retention set_audit_retention",
    "backfill": "backfill",
    "branch cherry-pick": "cherry_pick",
    "branch create": "create_branch",
    "branch diff": "diff",
    "branch ls": "branches branch",
    "branch merge": "merge",
    "branch protect": "protect_branch",
    "branch rename": "rename_branch",
    "branch revert": "revert",
    "branch rm": "delete_branch",
    "branch unprotect": "unprotect_branch",
    "checkout": "checkout",
    "deploy": "deploy",
    "deployment get": "deployment",
    "deployment ls": "deployments",
    "deployment rollback": "rollback",
    "environment explain": "environment",
    "environment ls": "environments",
    "environment prune": "prune_environments",
    "environment rebuild": "rebuild_environment",
    "event ls": "trigger_events",
    "event replay": "replay_trigger_event",
    "event rm": "remove_trigger_event",
    "event send": "send_events",
    "event show": "trigger_event",
    "function alias create": "create_function_alias",
    "function alias ls": "function_aliases",
    "function alias rm": "delete_function_alias",
    "function alias update": "update_function_alias",
    "function deploy": "deploy_function",
    "function invoke": "invoke invoke_table invoke_project invoke_async watch_function",
    "function layer ls": "layers",
    "function layer publish": "publish_layer",
    "function layer rm": "delete_layer",
    "function logs": "function_logs",
    "function ls": "functions",
    "function rm": "delete_function",
    "function show": "function",
    "function url create": "set_function_url",
    "function url get": "function_url",
    "function url rm": "delete_function_url",
    "function url update": "set_function_url",
    "function versions": "function_versions",
    "grant": "grant",
    "job get": "job",
    "job logs": "job_events",
    "job ls": "jobs",
    "job rerun": "rerun",
    "job retry": "retry",
    "job stop": "stop_job",
    "key create": "create_access_key",
    "key ls": "access_keys",
    "key revoke": "revoke_access_key",
    "limit ls": "limits limit",
    "limit rm": "remove_limit",
    "limit set": "set_limit",
    "log": "log resolve",
    "namespace create": "create_namespace",
    "namespace ls": "namespaces",
    "namespace rm": "drop_namespace",
    "query": "query query_rows query_pandas query_polars start_query running_query",
    "restriction create": "create_restriction",
    "restriction ls": "restrictions",
    "restriction rm": "drop_restriction",
    "revoke": "revoke",
    "role create": "create_role",
    "role grant": "grant_role",
    "role ls": "roles",
    "role revoke": "revoke_role",
    "role rm": "drop_role",
    "run": "run start_run watch",
    "secret ls": "secrets",
    "secret rm": "delete_secret",
    "secret set": "set_secret",
    "status": "health",
    "stop": "stop_server",
    "table diff": "diff_table",
    "table get": "table",
    "table import": "import_files start_import",
    "table ls": "tables",
    "table maintain": "maintain start_maintain",
    "table rm": "drop_table",
    "tag create": "create_tag",
    "tag ls": "tags tag",
    "tag rename": "rename_tag",
    "tag rm": "delete_tag",
    "test": "test",
    "token create": "create_token",
    "token ls": "tokens",
    "token revoke": "revoke_token",
    "trigger create": "create_trigger",
    "trigger get": "trigger",
    "trigger ls": "triggers",
    "trigger rm": "delete_trigger",
    "usage": "usage",
    "user create": "create_user",
    "user disable": "update_user",
    "user enable": "update_user",
    "user ls": "users user",
    "user passwd": "update_user",
    "user rm": "drop_user",
    "view get": "view",
    "view ls": "views",
    "view rm": "drop_view",
    "whoami": "whoami",
}

# Commands without a method: they create a lake, serve it, or need a terminal or browser.
WITHOUT_METHOD = {
    "completions",
    "console",
    "demo",
    "init",
    "login",
    "logout",
    "profile ls",
    "profile use",
    "serve",
    "sql",
}


class Commands(unittest.TestCase):
    def test_each_command_has_a_method(self):
        headings = re.findall(r"^## `headwater (.+)`$", COMMANDS.read_text(), re.MULTILINE)
        groups = {heading.rpartition(" ")[0] for heading in headings}
        commands = {heading for heading in headings if heading not in groups}
        self.assertEqual(commands - WITHOUT_METHOD, set(METHODS))
        for command, methods in METHODS.items():
            for method in methods.split():
                self.assertTrue(callable(getattr(headwater.Client, method, None)), command)

    def test_each_public_method_is_documented_and_typed(self):
        page = (DOCS / "python.md").read_text()
        for name in dir(headwater.Client):
            method = getattr(headwater.Client, name)
            if not name.startswith("_"):
                self.assertTrue(method.__doc__, name)
                self.assertIn("return", method.__annotations__, name)
                self.assertIn(f"`{name}`", page)


if __name__ == "__main__":
    unittest.main()
