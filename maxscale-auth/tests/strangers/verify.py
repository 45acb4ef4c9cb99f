"""Says of each token whether PyJWT takes it: a line with "taken" or "refused"."""

import json
import sys

import jwt

asked = json.load(sys.stdin)
keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(asked["jwks"]).keys}
for token in asked["tokens"]:
    try:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm_name],
            issuer=asked["issuer"],
            audience=asked["audience"],
        )
        print("taken")
    except (jwt.PyJWTError, KeyError) as error:
        print("refused", type(error).__name__)
