/** Deliveries through the API. */
import { api } from './api.ts'

export interface Delivery {
  id: string
  run_id: string
  type: string
  url: string
  status: 'pending' | 'delivered' | 'exhausted' | 'gone'
  attempts: number
  created_at: string
  due_at: string | null
  delivered_at: string | null
  last_error: string | null
}

export interface DeliveryAttempt {
  no: number
  trigger: string
  started_at: string
  duration_ms: number
  http_status: number | null
  error_class: string | null
  reply: string | null
}

export interface DeliveryWithAttempts extends Delivery {
  attempt_log?: readonly DeliveryAttempt[]
}

export interface DeliveryPage {
  data: readonly Delivery[]
  next_cursor: string | null
}

export function deliveryOf(id: string): Promise<DeliveryWithAttempts> {
  return api('GET', `/api/v1/deliveries/${id}`)
}

export function deliveries(query: string): Promise<DeliveryPage> {
  return api('GET', `/api/v1/deliveries${query ? `?${query}` : ''}`)
}

export async function resend(id: string): Promise<void> {
  await api('POST', `/api/v1/deliveries/${id}/resend`)
}

export async function recover(since: string): Promise<unknown> {
  return api('POST', '/api/v1/deliveries/recover', { body: { since } })
}

export async function ping(url: string): Promise<unknown> {
  return api('POST', '/api/v1/deliveries/test', { body: { webhook_url: url } })
}
