DROP INDEX `deliveries_run`;--> statement-breakpoint
ALTER TABLE `deliveries` ADD `trigger` text DEFAULT 'schedule' NOT NULL;--> statement-breakpoint
ALTER TABLE `deliveries` ADD `prior_status` text;--> statement-breakpoint
ALTER TABLE `deliveries` ADD `prior_due_at` integer;--> statement-breakpoint
CREATE INDEX `deliveries_list` ON `deliveries` (`api_key_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `deliveries_list_status` ON `deliveries` (`api_key_id`,`status`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `deliveries_list_host` ON `deliveries` (`api_key_id`,`host`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `deliveries_run` ON `deliveries` (`run_id`,`created_at`,`id`);--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_hash` text;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `previous_until` integer;--> statement-breakpoint
ALTER TABLE `api_keys` DROP COLUMN `rotated_from`;--> statement-breakpoint
CREATE INDEX `attempts_started` ON `attempts` (`started_at`) WHERE inherited = 0;