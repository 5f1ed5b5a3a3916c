using System.Globalization;
using MLNetLora.Cli;
using MLNetLora.Cli.Output;
using MLNetLora.Parquet;

CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;
CultureInfo.DefaultThreadCurrentUICulture = CultureInfo.InvariantCulture;
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
CultureInfo.CurrentUICulture = CultureInfo.InvariantCulture;
using Interruption interruption = new();
interruption.Listen();
ParquetData.Register();
return await CommandLine.RunAsync(args, Screen.OfProcess(interruption));
