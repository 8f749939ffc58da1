"""What embeds a partition: the encoder, pictures, slots of a batch, the rows of a shard."""
