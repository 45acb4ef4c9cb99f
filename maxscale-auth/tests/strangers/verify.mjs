// Says of each token whether jose takes it: a line with "taken" or "refused".
import { readFileSync } from 'node:fs'
import { createLocalJWKSet, jwtVerify } from 'jose'

const { jwks, tokens, issuer, audience } = JSON.parse(readFileSync(0, 'utf8'))
const keys = createLocalJWKSet(jwks)
for (const token of tokens) {
  try {
    await jwtVerify(token, keys, { issuer, audience, typ: 'at+jwt' })
    console.log('taken')
  } catch (error) {
    console.log('refused', error.code)
  }
}
