/** Deliveries through the API. */
import type { DeliveryAttemptDto, DeliveryDto, PingDto, RecoveryDto } from '../http/dto/deliveries.ts'
import { api } from './api.ts'

export type DeliveryDetail = DeliveryDto & { attempt_log: readonly DeliveryAttemptDto[]; payload: unknown }

export function deliveryOf(id: string): Promise<DeliveryDetail> {
  return api('GET', `/api/v1/deliveries/${id}`)
}

/** The same message with the same webhook-id, once more; the attempt itself comes after the answer. */
export function resend(id: string): Promise<DeliveryDto> {
  return api('POST', `/api/v1/deliveries/${id}/resend`)
}

/** What was not delivered since then, once more. */
export function recover(since: string): Promise<RecoveryDto> {
  return api('POST', '/api/v1/deliveries/recover', { body: { since } })
}

/** One signed test message, and what the receiver said. */
export function ping(url: string): Promise<PingDto> {
  return api('POST', '/api/v1/deliveries/test', { body: { url } })
}
