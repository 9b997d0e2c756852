// Types of the HTTP API that the page uses; `docs/reference/openapi.json` describes them.

import type { Problem } from "./api";

export interface Session {
  author?: string | null;
  key?: string;
  expires?: string;
}

export interface Branch {
  name: string;
  commit: string;
  created: string;
  protected?: boolean;
  quarantine?: string | null;
}

export interface Tag {
  name: string;
  commit: string;
  created: string;
}

export interface Column {
  name: string;
  type: string;
  nullable: boolean;
  field_id: number;
  comment?: string | null;
}

export interface Table {
  name: string;
  namespace: string;
  id: string;
  columns: Column[];
  partition: { column: string; transform: string }[];
  sort?: { column: string; descending: boolean }[];
  properties?: Record<string, string>;
  format_version?: number;
  rows: number;
  files: number;
  bytes: number;
  snapshot?: number | null;
  metadata_location?: string;
  updated?: string | null;
}

export interface View {
  name: string;
  namespace: string;
  columns: Column[];
  queries: { dialect: string; sql: string }[];
  updated?: string | null;
}

export interface Commit {
  id: string;
  author: string;
  message: string;
  parents: string[];
  time: string;
  properties?: Record<string, string>;
}

export interface Usage {
  wall_ms: number;
  cpu_us: number;
  memory_bytes_peak: number;
  bytes_read: number;
  bytes_written: number;
  rows_read: number;
  rows_written: number;
  queue_ms: number;
  environment_ms: number;
  start_ms: number;
  calls: number;
  cold_starts: number;
  retries: number;
}

export interface StepReport {
  step: string;
  kind: string;
  status: string;
  /** The branch from which the step's table was reused, if the step did not run. */
  reuses?: string;
  rows?: number | null;
  usage: Usage;
  cost?: number;
  error?: Problem | null;
}

export interface Job {
  id: string;
  kind: string;
  status: string;
  summary: string;
  author: string;
  reference?: string | null;
  created: string;
  started?: string | null;
  ended?: string | null;
  usage: Usage;
  cost?: number;
  error?: Problem | null;
  waits_for?: string[];
  result?: Record<string, unknown>;
}

export interface TableDiff {
  table: string;
  kind: string;
  columns: { column: string; before?: string | null; after?: string | null }[];
  rows_added?: number | null;
  rows_removed?: number | null;
  rows_changed?: number | null;
  rows_in_files_added: number;
  rows_in_files_removed: number;
  files_added: number;
  files_removed: number;
}

export interface MergeConflict {
  table: string;
  source_change: string;
  target_change: string;
  source?: Commit | null;
  target?: Commit | null;
  causes?: ConflictCause[];
}

export interface ConflictCause {
  kind: string;
  message: string;
  rows?: Record<string, unknown>[];
  rows_total?: number | null;
  changed?: {
    columns: {
      column: string;
      changed: boolean;
      base: unknown;
      source: unknown;
      target: unknown;
    }[];
    source_removed: boolean;
    target_removed: boolean;
  }[];
}

export interface MergeReport {
  outcome: string;
  commit: string;
  tables: string[];
  conflicts?: MergeConflict[];
}
