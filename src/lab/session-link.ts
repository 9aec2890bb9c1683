/** A sign-in link carries its token (or key) in the fragment, which browsers send to no server. */
import { signal } from '@preact/signals'
import { ApiFailure, CookieLost, session, signIn } from './api.ts'
import { go } from './nav.ts'

/** Why the link did not sign in, for the form that comes instead. */
export const linkProblem = signal<string | null>(null)

/** The fragment leaves the address before anything else happens. */
export async function signInByLink(): Promise<void> {
  const fragment = new URLSearchParams(location.hash.slice(1))
  const token = fragment.get('token')
  const key = fragment.get('key')
  if (token === null && key === null) return
  go(location.pathname + location.search, true)
  if (session.value?.signed_in) return
  await signIn(token === null ? { key: key ?? '' } : { token }).catch(error => {
    if (!(error instanceof ApiFailure || error instanceof CookieLost)) throw error
    linkProblem.value = error.message
  })
}
