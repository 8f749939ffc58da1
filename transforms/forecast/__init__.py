"""What a build will be before it is: workload, memory, work, hours, rates, machines."""
