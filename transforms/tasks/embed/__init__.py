"""What embeds one partition into one shard: the encoder, pictures, slots of a batch, the rows of a shard.

Slots are fixed by the plan, so that a bad neighbour changes no vector. Decoding is in `pictures`, models are in
`encoders`, the file of a shard in `shards`.
"""
