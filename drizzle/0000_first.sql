CREATE TABLE `api_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`prefix` text NOT NULL,
	`last4` text NOT NULL,
	`scopes` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer,
	`revoked_at` integer,
	`last_used_at` integer,
	`rotated_from` text,
	`rate_per_minute` integer,
	`max_running` integer,
	`max_queued` integer,
	`daily_budget_usd` real,
	CONSTRAINT "api_keys_whole" CHECK(typeof("api_keys"."created_at") in ('integer', 'null') and typeof("api_keys"."expires_at") in ('integer', 'null') and typeof("api_keys"."revoked_at") in ('integer', 'null') and typeof("api_keys"."last_used_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE UNIQUE INDEX `api_keys_hash` ON `api_keys` (`hash`);--> statement-breakpoint
CREATE INDEX `api_keys_created` ON `api_keys` (`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `attempts` (
	`run_id` text NOT NULL,
	`step_index` integer NOT NULL,
	`no` integer NOT NULL,
	`provider` text NOT NULL,
	`provider_model` text NOT NULL,
	`token` text NOT NULL,
	`inherited` integer NOT NULL,
	`started_at` integer NOT NULL,
	`submitted_at` integer,
	`ended_at` integer,
	`outcome` text NOT NULL,
	`job_ref` text NOT NULL,
	`error` text,
	`estimated_usd` real,
	`actual_usd` real,
	`cost_basis` text NOT NULL,
	`adjustments` text NOT NULL,
	`provider_cancel` text,
	`reopen_at` integer,
	PRIMARY KEY(`run_id`, `step_index`, `no`),
	FOREIGN KEY (`run_id`,`step_index`) REFERENCES `steps`(`run_id`,`step_index`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "attempts_outcome" CHECK("attempts"."outcome" in ('pending', 'succeeded', 'failed', 'canceled', 'unknown')),
	CONSTRAINT "attempts_basis" CHECK("attempts"."cost_basis" in ('metered', 'listed', 'upper_bound', 'unknown')),
	CONSTRAINT "attempts_whole" CHECK(typeof("attempts"."no") in ('integer', 'null') and typeof("attempts"."started_at") in ('integer', 'null') and typeof("attempts"."submitted_at") in ('integer', 'null') and typeof("attempts"."ended_at") in ('integer', 'null') and typeof("attempts"."reopen_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE UNIQUE INDEX `attempts_token` ON `attempts` (`token`) WHERE inherited = 0;--> statement-breakpoint
CREATE TABLE `chains` (
	`id` text PRIMARY KEY NOT NULL,
	`slug` text NOT NULL,
	`version` text NOT NULL,
	`hash` text NOT NULL,
	`body` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `counters` (
	`name` text PRIMARY KEY NOT NULL,
	`value` integer NOT NULL,
	CONSTRAINT "counters_value" CHECK("counters"."value" >= 0)
);
--> statement-breakpoint
CREATE TABLE `deliveries` (
	`id` text PRIMARY KEY NOT NULL,
	`run_id` text NOT NULL,
	`api_key_id` text NOT NULL,
	`type` text NOT NULL,
	`url` text NOT NULL,
	`host` text NOT NULL,
	`body` blob NOT NULL,
	`status` text NOT NULL,
	`attempts` integer NOT NULL,
	`due_at` integer NOT NULL,
	`ready_at` integer NOT NULL,
	`lease_token` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`delivered_at` integer,
	`last_error` text,
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "deliveries_status" CHECK("deliveries"."status" in ('pending', 'delivered', 'exhausted', 'gone')),
	CONSTRAINT "deliveries_whole" CHECK(typeof("deliveries"."attempts") in ('integer', 'null') and typeof("deliveries"."due_at") in ('integer', 'null') and typeof("deliveries"."ready_at") in ('integer', 'null') and typeof("deliveries"."created_at") in ('integer', 'null') and typeof("deliveries"."updated_at") in ('integer', 'null') and typeof("deliveries"."delivered_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `deliveries_ready` ON `deliveries` (`ready_at`) WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX `deliveries_host` ON `deliveries` (`host`,`ready_at`) WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX `deliveries_leased` ON `deliveries` (`lease_token`) WHERE lease_token is not null;--> statement-breakpoint
CREATE INDEX `deliveries_run` ON `deliveries` (`run_id`,`created_at`);--> statement-breakpoint
CREATE UNIQUE INDEX `deliveries_terminal` ON `deliveries` (`run_id`) WHERE type in ('run.succeeded', 'run.failed', 'run.canceled');--> statement-breakpoint
CREATE TABLE `delivery_attempts` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`delivery_id` text NOT NULL,
	`no` integer NOT NULL,
	`trigger` text NOT NULL,
	`started_at` integer NOT NULL,
	`duration_ms` real NOT NULL,
	`ip` text,
	`http_status` integer,
	`error_class` text,
	`reply` text,
	`next_at` integer,
	`reason` text,
	`late` integer NOT NULL,
	FOREIGN KEY (`delivery_id`) REFERENCES `deliveries`(`id`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "delivery_attempts_trigger" CHECK("delivery_attempts"."trigger" in ('schedule', 'manual', 'recover')),
	CONSTRAINT "delivery_attempts_whole" CHECK(typeof("delivery_attempts"."no") in ('integer', 'null') and typeof("delivery_attempts"."started_at") in ('integer', 'null') and typeof("delivery_attempts"."next_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `delivery_attempts_delivery` ON `delivery_attempts` (`delivery_id`,`id`);--> statement-breakpoint
CREATE TABLE `events` (
	`run_id` text NOT NULL,
	`seq` integer NOT NULL,
	`at` integer NOT NULL,
	`type` text NOT NULL,
	`step_key` text,
	`data` text NOT NULL,
	PRIMARY KEY(`run_id`, `seq`),
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "events_whole" CHECK(typeof("events"."seq") in ('integer', 'null') and typeof("events"."at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE TABLE `idempotency_keys` (
	`key` text PRIMARY KEY NOT NULL,
	`fingerprint` text NOT NULL,
	`run_id` text NOT NULL,
	`response` text NOT NULL,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `idempotency_keys_run` ON `idempotency_keys` (`run_id`);--> statement-breakpoint
CREATE TABLE `media` (
	`id` text PRIMARY KEY NOT NULL,
	`run_id` text,
	`step_id` text,
	`api_key_id` text NOT NULL,
	`mime` text NOT NULL,
	`bytes` integer NOT NULL,
	`sha256` text NOT NULL,
	`width` integer,
	`height` integer,
	`seconds` real,
	`location` text NOT NULL,
	`created_at` integer NOT NULL,
	`idle_since` integer,
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE set null,
	CONSTRAINT "media_whole" CHECK(typeof("media"."bytes") in ('integer', 'null') and typeof("media"."width") in ('integer', 'null') and typeof("media"."height") in ('integer', 'null') and typeof("media"."created_at") in ('integer', 'null') and typeof("media"."idle_since") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `media_run` ON `media` (`run_id`);--> statement-breakpoint
CREATE INDEX `media_idle` ON `media` (`idle_since`,`id`) WHERE idle_since is not null;--> statement-breakpoint
CREATE TABLE `run_inputs` (
	`run_id` text PRIMARY KEY NOT NULL,
	`input` text NOT NULL,
	`metadata` text NOT NULL,
	`callback` text,
	`provider_order` text NOT NULL,
	`plan` text NOT NULL,
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `run_metadata` (
	`api_key_id` text NOT NULL,
	`key` text NOT NULL,
	`value` text NOT NULL,
	`created_at` integer NOT NULL,
	`run_id` text NOT NULL,
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `run_metadata_list` ON `run_metadata` (`api_key_id`,`key`,`value`,`created_at`,`run_id`);--> statement-breakpoint
CREATE INDEX `run_metadata_run` ON `run_metadata` (`run_id`);--> statement-breakpoint
CREATE TABLE `runs` (
	`id` text PRIMARY KEY NOT NULL,
	`api_key_id` text NOT NULL,
	`slug` text NOT NULL,
	`chain_slug` text NOT NULL,
	`chain_id` text NOT NULL,
	`mode` text NOT NULL,
	`status` text NOT NULL,
	`max_cost_usd` real,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`deadline_at` integer NOT NULL,
	`cancel_requested_at` integer,
	`resumed_from` text,
	`error` text,
	`revision` integer NOT NULL,
	`last_seq` integer NOT NULL,
	`wake_at` integer,
	FOREIGN KEY (`chain_id`) REFERENCES `chains`(`id`) ON UPDATE no action ON DELETE no action,
	CONSTRAINT "runs_status" CHECK("runs"."status" in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
	CONSTRAINT "runs_mode" CHECK("runs"."mode" in ('sandbox', 'byok')),
	CONSTRAINT "runs_open_has_wake" CHECK(("runs"."wake_at" is not null) = ("runs"."status" in ('queued', 'running'))),
	CONSTRAINT "runs_whole" CHECK(typeof("runs"."created_at") in ('integer', 'null') and typeof("runs"."updated_at") in ('integer', 'null') and typeof("runs"."deadline_at") in ('integer', 'null') and typeof("runs"."cancel_requested_at") in ('integer', 'null') and typeof("runs"."wake_at") in ('integer', 'null') and typeof("runs"."revision") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `runs_list` ON `runs` (`api_key_id`,`chain_slug`,`status`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `runs_due` ON `runs` (`wake_at`,`id`) WHERE wake_at is not null;--> statement-breakpoint
CREATE TABLE `settings` (
	`name` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `steps` (
	`run_id` text NOT NULL,
	`step_index` integer NOT NULL,
	`id` text NOT NULL,
	`step_key` text NOT NULL,
	`model` text NOT NULL,
	`status` text NOT NULL,
	`state` text NOT NULL,
	`inherited` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`started_at` integer,
	`completed_at` integer,
	PRIMARY KEY(`run_id`, `step_index`),
	FOREIGN KEY (`run_id`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "steps_status" CHECK("steps"."status" in ('queued', 'submitting', 'running', 'waiting', 'keeping', 'succeeded', 'failed', 'canceled', 'skipped')),
	CONSTRAINT "steps_whole" CHECK(typeof("steps"."step_index") in ('integer', 'null') and typeof("steps"."created_at") in ('integer', 'null') and typeof("steps"."updated_at") in ('integer', 'null') and typeof("steps"."started_at") in ('integer', 'null') and typeof("steps"."completed_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE TABLE `webhook_secrets` (
	`id` text PRIMARY KEY NOT NULL,
	`api_key_id` text NOT NULL,
	`secret` blob NOT NULL,
	`created_at` integer NOT NULL,
	`retires_at` integer,
	FOREIGN KEY (`api_key_id`) REFERENCES `api_keys`(`id`) ON UPDATE no action ON DELETE cascade,
	CONSTRAINT "webhook_secrets_whole" CHECK(typeof("webhook_secrets"."created_at") in ('integer', 'null') and typeof("webhook_secrets"."retires_at") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `webhook_secrets_key` ON `webhook_secrets` (`api_key_id`,`created_at`);