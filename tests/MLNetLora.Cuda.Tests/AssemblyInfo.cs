// What happens on the device is counted for the whole process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
