CREATE TABLE `closed_hosts` (
	`host` text PRIMARY KEY NOT NULL,
	`until` integer NOT NULL,
	`pause_ms` integer NOT NULL,
	CONSTRAINT "closed_hosts_whole" CHECK(typeof("closed_hosts"."until") in ('integer', 'null') and typeof("closed_hosts"."pause_ms") in ('integer', 'null'))
);
--> statement-breakpoint
CREATE INDEX `closed_hosts_until` ON `closed_hosts` (`until`);